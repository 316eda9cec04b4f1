// As much of Arduino as the sketch needs, on a computer: bytes and time come from standard input, motors go out.
#include <stdint.h>

#define constrain(v, low, high) ((v) < (low) ? (low) : (v) > (high) ? (high) : (v))

struct SerialPort {
  void begin(unsigned long baud);
  int available();
  int read();
};

extern SerialPort Serial;

unsigned long micros();
void analogWrite(int pin, int value);
void setup();
void loop();
