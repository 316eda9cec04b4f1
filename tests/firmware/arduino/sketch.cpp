// The sketch as a program. Standard input: lines of "microseconds hex-bytes". After each it runs loop() once and prints
// what the motors do: "left right".
#include "Arduino.h"

#include <stdio.h>
#include <string.h>

static unsigned long now_us;
static char line[4096];
static const char *next = "";
static int motors[16];

SerialPort Serial;

void SerialPort::begin(unsigned long) {}
int SerialPort::available() { return *next ? 1 : 0; }
int SerialPort::read() {
  unsigned value = 0;
  sscanf(next, "%2x", &value);
  next += 2;
  return static_cast<int>(value);
}
unsigned long micros() { return now_us; }
void analogWrite(int pin, int value) { motors[pin] = value; }

int main() {
  char hex[4000];
  setup();
  while (fgets(line, sizeof line, stdin)) {
    hex[0] = 0;
    sscanf(line, "%lu %3999s", &now_us, hex);
    next = hex;
    loop();
    printf("%d %d\n", motors[5], motors[6]);
  }
  return 0;
}

#include SKETCH
