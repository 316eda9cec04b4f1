/* What firmware does with a message that was taken: read all of it. The sum keeps the compiler from leaving it out. */
#include "../harrier.c"

#include <stdlib.h>

static unsigned long read_all(harrier *h, const uint8_t *message, uint32_t now_us)
{
    unsigned long sum = harrier_tick(h, now_us), i, j;
    const uint8_t *record, *block;
    const char *text;
    for (i = 0; i < harrier_count(h); i++) {
        record = harrier_record(h, (uint8_t)i);
        sum += harrier_class_id(record) + harrier_score(record);
        if (HARRIER_GET_HEADER_KIND(harrier_result(h)) == HARRIER_KIND_DETECTIONS)
            sum += harrier_track_id(record) + harrier_x1(record) + harrier_y2(record) +
                   (unsigned long)harrier_offset_x(h, record);
        block = harrier_velocity(h, record);
        sum += block ? (unsigned long)HARRIER_GET_VELOCITY_Y(block) : 0;
        block = harrier_position(h, record);
        sum += block ? HARRIER_GET_POSITION_RANGE_SIGMA(block) : 0;
        block = harrier_prediction(h, record);
        sum += block ? HARRIER_GET_PREDICTION_UNSEEN_MS(block) : 0;
        block = harrier_base(h, record);
        sum += block ? HARRIER_GET_BASE_SIGMA(block) : 0;
    }
    for (i = 0; i < 256; i++) {
        uint8_t size = harrier_string(message, (uint8_t)i, &text);
        for (j = 0; text && j < size; j++)
            sum += (uint8_t)text[j];
    }
    if (HARRIER_GET_HEADER_KIND(message) == HARRIER_KIND_REGION)
        sum += HARRIER_GET_REGION_TRACK_ID(message) + HARRIER_GET_REGION_INSIDE(message);
    harrier_best(h, HARRIER_NO_CLASS);
    return sum + harrier_age_us(h, now_us) + harrier_unix_ns(h, now_us) + harrier_unix_error_us(h, now_us);
}

static uint16_t crc_of(const uint8_t *bytes, size_t size)
{
    uint16_t crc = 0xFFFF;
    while (size--)
        crc = crc_add(crc, *bytes++);
    return crc;
}

/* In memory of exactly its size, so that the sanitizer sees any reading beyond; the checksum is made right. */
static int judge_in_a_tight_place(const uint8_t *bytes, size_t size)
{
    uint8_t *tight;
    int taken = 0;
    const char *text;
    if (size < HARRIER_HEADER_BYTES + HARRIER_CHECKSUM_BYTES)
        return 0;
    tight = malloc(size);
    if (!tight)
        return 0;
    memcpy(tight, bytes, size);
    harrier_put_u16(tight + size - 2, crc_of(tight, size - 2));
    if (is_ours(tight) && is_regular(tight, (uint16_t)size)) {
        uint8_t n = 0, count = 0, last = 0;
        uint16_t at;
        taken = 1;
        for (n = strings(tight, &at); n; n--) {
            uint8_t length = harrier_string(tight, (uint8_t)(n - 1), &text);
            if (length)
                last = (uint8_t)text[length - 1];
        }
        if (HARRIER_GET_HEADER_KIND(tight) <= HARRIER_KIND_CLASSIFICATION) {
            const uint8_t *first = records(tight, &count);
            if (count)
                last = first[count * record_bytes(tight) - 1];
        }
        taken += last == 255 && count == 255 && n == 255; /* never; so that last is read */
    }
    free(tight);
    return taken;
}
