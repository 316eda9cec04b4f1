/* An interrupt on another core, as a thread: results whose every number is the same go in on one side; none may come
 * out on the other with two different numbers, and none older than one before; the counters of the news must agree
 * likewise. threads COUNT LEAST: at least COUNT go in, and more until LEAST have come out. Prints how many came out,
 * which was the last of them, and how many went in. */
#include "harrier.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static harrier h;
static unsigned long count, least, fed;
static volatile unsigned long seen;
static volatile int done;

static uint16_t crc_of(const uint8_t *bytes, int size)
{
    uint16_t crc = 0xFFFF;
    int bit;
    while (size--) {
        crc ^= (uint16_t)(*bytes++ << 8);
        for (bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

static void *interrupt(void *nothing)
{
    enum { RECORDS = 3, END = HARRIER_DETECTIONS_REST_AT + RECORDS * HARRIER_DETECTION_BYTES };
    static uint8_t message[END + 2] = {HARRIER_MAGIC, HARRIER_VERSION, HARRIER_KIND_DETECTIONS, 0};
    unsigned long i;
    uint8_t *p;
    harrier_put_u16(message + HARRIER_AT_HEADER_FORMAT_HASH, HARRIER_FORMAT_HASH);
    harrier_put_u8(message + HARRIER_AT_DETECTIONS_COUNT, RECORDS);
    harrier_put_u16(message + HARRIER_AT_DETECTIONS_TTL_MS, 1000);
    for (i = 1; i <= count || seen < least; i++) {
        if (i > count && i % 64 == 0)
            sched_yield(); /* the other side gets no processor: let it have this one */
        harrier_put_u32(message + HARRIER_AT_HEADER_SEQ, (uint32_t)i);
        for (p = message + HARRIER_DETECTIONS_REST_AT; p < message + END; p += 2)
            harrier_put_u16(p, (uint16_t)i);
        harrier_put_u16(message + END, crc_of(message, END));
        harrier_feed_datagram(&h, message, END + 2, (uint32_t)i);
    }
    fed = i - 1;
    done = 1;
    return nothing;
}

int main(int argc, char **argv)
{
    uint32_t seq, last = 0;
    uint16_t told_last = 0;
    pthread_t thread;
    int finished = 0;
    if (argc != 3)
        return 2;
    count = strtoul(argv[1], 0, 10);
    least = strtoul(argv[2], 0, 10);
    harrier_init(&h, 0);
    if (pthread_create(&thread, 0, interrupt, 0))
        return 2;
    while (!finished) {
        const uint8_t *p;
        uint8_t i;
        finished = done;
        harrier_tick(&h, last);
        if (harrier_told(&h)->counts.messages != harrier_told(&h)->lives ||
            (uint16_t)(harrier_told(&h)->lives - told_last) > 0x7FFF)
            return 3;
        told_last = harrier_told(&h)->lives;
        if (!harrier_is_new(&h))
            continue;
        seq = HARRIER_GET_HEADER_SEQ(harrier_result(&h));
        if (seq <= last || harrier_count(&h) != 3)
            return 4;
        for (i = 0; i < 3; i++)
            for (p = harrier_record(&h, i); p < harrier_record(&h, i) + HARRIER_DETECTION_BYTES; p += 2)
                if (harrier_get_u16(p) != (uint16_t)seq)
                    return 5;
        last = seq;
        seen++;
    }
    pthread_join(thread, 0);
    printf("%lu %lu %lu\n", seen, (unsigned long)last, fed);
    return 0;
}
