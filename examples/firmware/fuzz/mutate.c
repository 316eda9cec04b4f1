/* The same many damaged messages each time: mutate COUNT SEED FILE...
 *
 * Whole messages from the files are framed, damaged in one to six ways (before COBS or behind it) and fed. What is
 * taken although nobody sent it is a false accept; the checksum lets about one in 65536 through, and some of these are
 * foreign. Then the same damage is done behind the checksum's back, to try what checks lengths and numbers. Prints:
 * fed, taken undamaged, false accepts, foreign, taken with a made-up checksum. Meant to be built with
 * -fsanitize=address,undefined. */
#include "exercise.h"

#include <stdio.h>

#define MOST_MESSAGES 64
#define MOST_BYTES 1024

static struct {
    uint8_t bytes[HARRIER_BUFFER_BYTES];
    size_t size;
} sent[MOST_MESSAGES];
static size_t sent_count;
static uint64_t state;
static harrier h;

/* xorshift64* (Vigna, 2016) */
static uint32_t draw(uint32_t below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 33) % below;
}

static size_t cobs(const uint8_t *in, size_t n, uint8_t *out)
{
    size_t code = 0, at = 1, i;
    for (i = 0; i < n; i++) {
        if (in[i])
            out[at++] = in[i];
        if (!in[i] || at - code == 255) {
            out[code] = (uint8_t)(at - code);
            code = at++;
        }
    }
    out[code] = (uint8_t)(at - code);
    return at;
}

static size_t damage(uint8_t *bytes, size_t n)
{
    uint32_t times = 1 + draw(6);
    while (times--) {
        size_t at = draw((uint32_t)n), length, i;
        const uint32_t what = draw(8);
        const uint8_t *other;
        switch (what) {
        case 0:
            bytes[at] ^= (uint8_t)(1 << draw(8));
            break;
        case 1:
            bytes[at] = (uint8_t)draw(256);
            break;
        case 2: /* one more */
            if (n < MOST_BYTES - 1) {
                memmove(bytes + at + 1, bytes + at, n - at);
                bytes[at] = (uint8_t)draw(256);
                n++;
            }
            break;
        case 3: /* one less */
            if (n > 1) {
                memmove(bytes + at, bytes + at + 1, n - at - 1);
                n--;
            }
            break;
        case 4: /* noise */
            length = 1 + draw(16);
            for (i = at; i < n && i < at + length; i++)
                bytes[i] = (uint8_t)draw(256);
            break;
        case 5: /* torn off */
            if (at > 0)
                n = at;
            break;
        case 6: /* two change places */
            i = draw((uint32_t)n);
            length = bytes[i];
            bytes[i] = bytes[at];
            bytes[at] = (uint8_t)length;
            break;
        default: /* a piece of another message */
            i = draw((uint32_t)sent_count);
            other = sent[i].bytes;
            length = 1 + draw((uint32_t)sent[i].size);
            for (i = 0; i < length && at + i < n; i++)
                bytes[at + i] = other[i];
            break;
        }
    }
    return n;
}

static int was_sent(const uint8_t *message)
{
    size_t i;
    for (i = 0; i < sent_count; i++)
        if (!memcmp(message, sent[i].bytes, sent[i].size))
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long count, i, whole = 0, wrong = 0, made_up = 0, sum = 0;
    uint8_t bytes[MOST_BYTES + 16], message[MOST_BYTES];
    size_t n, at;
    int file;
    if (argc < 4)
        return 2;
    count = strtoul(argv[1], 0, 10);
    state = strtoul(argv[2], 0, 10) * 2654435761u + 1;
    for (file = 3; file < argc && sent_count < MOST_MESSAGES; file++) {
        FILE *stream = fopen(argv[file], "rb");
        if (!stream)
            return 2;
        n = fread(sent[sent_count].bytes, 1, HARRIER_BUFFER_BYTES, stream);
        if (fgetc(stream) == EOF && judge_in_a_tight_place(sent[sent_count].bytes, n))
            sent[sent_count++].size = n;
        fclose(stream);
    }
    harrier_init(&h, 0);
    for (i = 0; i < count; i++) {
        size_t which = draw((uint32_t)sent_count);
        if (i & 1) { /* on the line, where COBS finds most of it */
            n = damage(bytes, cobs(sent[which].bytes, sent[which].size, bytes));
        } else { /* before COBS, so that all depends on the checksum */
            memcpy(message, sent[which].bytes, sent[which].size);
            n = cobs(message, damage(message, sent[which].size), bytes);
        }
        bytes[n++] = 0;
        for (at = 0; at < n; at++) {
            if (!harrier_feed(&h, bytes[at], (uint32_t)i * 1000))
                continue;
            if (was_sent(harrier_message(&h)))
                whole++;
            else
                wrong++;
            sum += read_all(&h, harrier_message(&h), (uint32_t)i * 1000);
        }
        memcpy(bytes, sent[which].bytes, sent[which].size);
        n = damage(bytes, sent[which].size);
        if (judge_in_a_tight_place(bytes, n) && n <= HARRIER_BUFFER_BYTES) {
            harrier_put_u16(bytes + n - 2, crc_of(bytes, n - 2));
            if (!harrier_feed_datagram(&h, bytes, (uint16_t)n, (uint32_t)i * 1000))
                return 3; /* judged in two ways */
            made_up++;
            sum += read_all(&h, harrier_message(&h), (uint32_t)i * 1000);
        }
    }
    printf("%lu %lu %lu %u %lu\n", count, whole, wrong, h.news.counts.foreign, made_up);
    fprintf(stderr, "%lu\n", sum);
    return 0;
}
