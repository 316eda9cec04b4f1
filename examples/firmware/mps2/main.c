/* A robot's controller without a robot: it says what it would do.
 *
 *   STEER seq offset age count   turn to the best detection, offset -1000 (left) to 1000 (right)
 *   CLEAR seq age                nothing is there: go on
 *   STOP why at arrived age ttl gap
 *                                motors off at time `at`; the newest result came at `arrived`, `age` old, with this
 *                                time to live; the loop had last looked `gap` before. All in ms of this clock
 *   COUNT messages bad too_long foreign missed
 *   CLOCK error                  the sender's time is known to so many us
 */
#include "harrier.h"
#include "uart.h"

static harrier h;
static volatile int16_t motor_left, motor_right; /* -1000 to 1000 */
static uint32_t now, gap;

void on_byte(uint8_t byte) { harrier_feed(&h, byte, now_ms() * 1000); }

static void text(const char *words)
{
    uint16_t n = 0;
    while (words[n])
        n++;
    uart_write(words, n);
}

static void number(int32_t value)
{
    char digits[12], *p = digits + sizeof digits;
    uint32_t rest = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    *--p = 0;
    do
        *--p = (char)('0' + rest % 10);
    while (rest /= 10);
    text(value < 0 ? " -" : " ");
    text(p);
}

static void drive(int16_t forward, int16_t turn)
{
    motor_left = (int16_t)(forward + turn / 2);
    motor_right = (int16_t)(forward - turn / 2);
}

static void stop(harrier *controller, harrier_state why)
{
    const harrier_slot *newest = &controller->slots[controller->results.reading];
    motor_left = motor_right = 0;
    text("STOP ");
    text(harrier_state_name(why));
    number((int32_t)now);
    number((int32_t)(newest->arrived_us / 1000));
    number(newest->number ? (int32_t)(HARRIER_GET_DETECTIONS_AGE_US(newest->bytes) / 1000) : 0);
    number(newest->number ? HARRIER_GET_DETECTIONS_TTL_MS(newest->bytes) : 0);
    number((int32_t)gap);
    text("\n");
}

static void act(harrier_state state)
{
    const uint8_t *best = harrier_best(&h, HARRIER_NO_CLASS), *message = harrier_result(&h);
    if (!message)
        return;
    if (state == HARRIER_SEEING)
        drive(300, harrier_offset_x(&h, best));
    else
        drive(300, 0);
    if (!harrier_is_new(&h))
        return;
    text(state == HARRIER_SEEING ? "STEER" : "CLEAR");
    number((int32_t)HARRIER_GET_HEADER_SEQ(message));
    if (state == HARRIER_SEEING)
        number(harrier_offset_x(&h, best));
    number((int32_t)(harrier_age_us(&h, now * 1000) / 1000));
    if (state == HARRIER_SEEING)
        number(harrier_count(&h));
    text("\n");
}

static void report(void)
{
    const harrier_counts *counts = &harrier_told(&h)->counts;
    uint8_t question[HARRIER_CLOCK_FRAME_BYTES];
    text("COUNT");
    number(counts->messages);
    number(counts->bad);
    number(counts->too_long);
    number(counts->foreign);
    number(counts->missed);
    text("\n");
    if (harrier_unix_ns(&h, now * 1000)) {
        text("CLOCK");
        number((int32_t)harrier_unix_error_us(&h, now * 1000));
        text("\n");
    }
    uart_write(question, harrier_write_clock(question, sizeof question, now_ms() * 1000));
}

int main(void)
{
    uint32_t reported = 0, before = 0;
    harrier_init(&h, stop);
    clock_begin();
    uart_begin(115200);
    for (;;) {
        __asm__ volatile("wfi");
        now = now_ms();
        gap = now - before;
        before = now;
        act(harrier_tick(&h, now * 1000));
        if (now - reported >= 500) {
            reported = now;
            report();
        }
    }
}
