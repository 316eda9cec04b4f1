// Drive towards what the camera sees; stand still when it sees nothing, and when nothing new is heard of it.
//   harrier run --model face --source 0 --publish "serial:///dev/ttyACM0?baud=115200&max_bytes=256"
#include <harrier.h>

const int LEFT = 5, RIGHT = 6;  // PWM of the two motors
harrier vision;

void drive(int left, int right) {
  analogWrite(LEFT, constrain(left, 0, 255));
  analogWrite(RIGHT, constrain(right, 0, 255));
}

void stopped(harrier *, harrier_state) { drive(0, 0); }  // waiting, stale or dead

void setup() {
  Serial.begin(115200);
  harrier_init(&vision, stopped);
}

void loop() {
  while (Serial.available()) harrier_feed(&vision, Serial.read(), micros());
  switch (harrier_tick(&vision, micros())) {
    case HARRIER_SEEING: {
      int turn = harrier_offset_x(&vision, harrier_best(&vision, HARRIER_NO_CLASS)) / 10;  // -100 to 100
      drive(120 + turn, 120 - turn);
      break;
    }
    case HARRIER_CLEAR:
      drive(0, 0);
      break;
    default:
      break;  // stopped() has been called
  }
}
