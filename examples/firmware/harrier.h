/* Harrier on a microcontroller: what a camera saw, how old it is, and when to stop believing it.
 *
 * C99, no heap, nothing of the C library but memcpy. Give every byte of the serial line to harrier_feed() (in the
 * receive interrupt, if you like), call harrier_tick() in the loop, act on what it returns. docs/firmware.md has the
 * whole story.
 *
 * Times are microseconds of any 32-bit counter that wraps to 0: micros(), or millis() * 1000. */
#ifndef HARRIER_H
#define HARRIER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The longest message that is taken, without its framing; there are three buffers of this size. 256 bytes hold 15
 * detections (11 with velocity, 8 with position, 4 with all that there can be). Longer messages are counted in too_long. */
#ifndef HARRIER_BUFFER_BYTES
#define HARRIER_BUFFER_BYTES 256
#endif
#if HARRIER_BUFFER_BYTES < 64 || HARRIER_BUFFER_BYTES > 8192
#error "HARRIER_BUFFER_BYTES is 64 to 8192"
#endif

/* No result is acted on beyond this age, whatever time to live its sender gives it. */
#ifndef HARRIER_MAX_TTL_MS
#define HARRIER_MAX_TTL_MS 1000
#endif

/* How far this controller's clock may drift: 100 for a crystal, 5000 for a ceramic resonator or RC oscillator. */
#ifndef HARRIER_DRIFT_PPM
#define HARRIER_DRIFT_PPM 5000
#endif

static inline uint8_t harrier_get_u8(const uint8_t *p) { return p[0]; }
static inline uint16_t harrier_get_u16(const uint8_t *p) { return (uint16_t)(p[0] | (uint16_t)p[1] << 8); }
static inline int16_t harrier_get_i16(const uint8_t *p) { return (int16_t)harrier_get_u16(p); }
static inline uint32_t harrier_get_u32(const uint8_t *p)
{
    return harrier_get_u16(p) | (uint32_t)harrier_get_u16(p + 2) << 16;
}
static inline uint64_t harrier_get_u64(const uint8_t *p)
{
    return harrier_get_u32(p) | (uint64_t)harrier_get_u32(p + 4) << 32;
}
static inline void harrier_put_u8(uint8_t *p, uint8_t v) { p[0] = v; }
static inline void harrier_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void harrier_put_u32(uint8_t *p, uint32_t v)
{
    harrier_put_u16(p, (uint16_t)v);
    harrier_put_u16(p + 2, (uint16_t)(v >> 16));
}
static inline void harrier_put_u64(uint8_t *p, uint64_t v)
{
    harrier_put_u32(p, (uint32_t)v);
    harrier_put_u32(p + 4, (uint32_t)(v >> 32));
}

#include "harrier_layout.h"

/* What may be done now. Move in HARRIER_CLEAR and HARRIER_SEEING only. */
typedef enum harrier_state {
    HARRIER_WAITING, /* no sign of life has come since the start */
    HARRIER_DEAD,    /* signs of life have stopped: Harrier, its computer or the line is gone */
    HARRIER_STALE,   /* Harrier lives, but has no result that is young enough: camera gone, model too slow, paused */
    HARRIER_CLEAR,   /* a young result, and nothing is on it: no target */
    HARRIER_SEEING   /* a young result with at least one record */
} harrier_state;

typedef struct harrier harrier;

/* Called by harrier_tick() at its first call and whenever the state becomes one in which nothing may move. */
typedef void (*harrier_stop)(harrier *h, harrier_state why);

/* All wrap to 0 after 65535. */
typedef struct harrier_counts {
    uint16_t messages; /* whole, undamaged, of this table */
    uint16_t bad;      /* damaged */
    uint16_t too_long; /* did not fit HARRIER_BUFFER_BYTES */
    uint16_t foreign;  /* undamaged, but of another version, format hash or kind: update one side */
    uint16_t missed;   /* frames of the source without a result here, by gaps in seq */
} harrier_counts;

/* What the messages told beside results. */
typedef struct harrier_news {
    uint64_t clock_ns;      /* the sender's Unix time at clock_us; 0 while unknown */
    uint32_t clock_us;      /* this controller's time */
    uint32_t clock_wait_ns; /* how long the question and its answer were under way together */
    uint32_t life_us;       /* when the newest sign of life began to arrive */
    uint16_t lives;         /* signs of life so far */
    uint16_t period_ms;     /* between heartbeats; 0 while unknown */
    uint8_t source_state;   /* HARRIER_STATE_... */
    uint8_t flags;          /* HARRIER_FLAG_..., of the newest message */
    harrier_counts counts;
} harrier_news;

typedef struct harrier_slot {
    uint32_t arrived_us; /* when its first byte came */
    uint16_t number;     /* results so far; 0 is none */
    uint16_t size;       /* with checksum */
    uint8_t bytes[HARRIER_BUFFER_BYTES];
} harrier_slot;

/* Three places, of which the interrupt owns one, the loop another, and the third has the newest: neither ever waits
 * for the other, and neither sees what is half done. */
typedef struct harrier_latch {
    volatile uint8_t newest;  /* written by harrier_feed() only */
    volatile uint8_t reading; /* written by harrier_tick() only */
    uint8_t writing;          /* of harrier_feed() alone */
} harrier_latch;

/* No member is for you but stop and user; the functions below tell the rest. */
struct harrier {
    harrier_stop stop; /* may be 0 */
    void *user;        /* yours */

    harrier_latch results, told; /* between harrier_feed() and harrier_tick() */
    harrier_slot slots[3];
    harrier_news tellings[3];

    harrier_news news; /* of harrier_feed() alone, down to source_id */
    uint32_t began_us;
    uint32_t seq;
    uint16_t number;
    uint16_t size;
    uint16_t crc;
    uint16_t source_id;
    uint8_t block;
    uint8_t left;
    uint8_t reception;
    uint8_t whole;

    harrier_state state; /* of harrier_tick() alone, from here on */
    uint16_t seen_number;
    uint16_t seen_lives;
    uint8_t ticked;
    uint8_t is_new;
    uint8_t fresh;
    uint8_t alive;
    uint8_t heard;
    uint8_t timed;
    uint32_t seen_clock_us;
};

/* Forget everything. stop: see harrier_stop; may be 0. Call it before the interrupt is on. */
void harrier_init(harrier *h, harrier_stop stop);

/* ---- where bytes arrive: the receive interrupt, a DMA callback, or the loop ---- */

/* Take one byte. Returns the kind (HARRIER_KIND_...) of the message that is complete with it, or 0. */
uint8_t harrier_feed(harrier *h, uint8_t byte, uint32_t now_us);

/* Take a whole unframed message, as it comes in a UDP datagram, instead of harrier_feed(). Returns the same. */
uint8_t harrier_feed_datagram(harrier *h, const uint8_t *bytes, uint16_t size, uint32_t now_us);

/* The message that harrier_feed() has just returned the kind of, for HARRIER_GET_...; good until it is called again. */
const uint8_t *harrier_message(const harrier *h);

/* String number i of a STATUS, HELLO, LABELS or REGION message, without a zero at its end. Returns its length. */
uint8_t harrier_string(const uint8_t *message, uint8_t i, const char **text);

/* ---- in the loop, or in one timer interrupt, never in both; what it finds is good until it is called again ---- */

/* Take the newest result, judge its age and the signs of life, call stop where that is due. Returns the state. */
harrier_state harrier_tick(harrier *h, uint32_t now_us);

/* A name for a state: "waiting", "dead", "stale", "clear", "seeing". */
const char *harrier_state_name(harrier_state state);

/* 1 when the last harrier_tick() found another result than the one before. */
static inline uint8_t harrier_is_new(const harrier *h) { return h->is_new; }

/* The result as a message, for HARRIER_GET_DETECTIONS_...; 0 where there is none that may be acted on. */
static inline const uint8_t *harrier_result(const harrier *h)
{
    return h->fresh ? h->slots[h->results.reading].bytes : (const uint8_t *)0;
}

/* What is known beside results: counters, source, flags, clock. */
static inline const harrier_news *harrier_told(const harrier *h) { return &h->tellings[h->told.reading]; }

/* Age in us of the result since its capture, or 0xFFFFFFFF. */
uint32_t harrier_age_us(const harrier *h, uint32_t now_us);

/* Records of the result; 0 where it may not be acted on. */
uint8_t harrier_count(const harrier *h);

/* Record i, 0 for one that is not there. Of CLASSIFICATION only class_id and score may be read. */
const uint8_t *harrier_record(const harrier *h, uint8_t i);

/* The record with the highest score, of one class or, with HARRIER_NO_CLASS, of any; 0 when there is none. */
const uint8_t *harrier_best(const harrier *h, uint16_t class_id);

/* A record's velocity, for HARRIER_GET_VELOCITY_X and _Y; 0 when it is not known. */
const uint8_t *harrier_velocity(const harrier *h, const uint8_t *record);

/* A record's position, for HARRIER_GET_POSITION_AZIMUTH, _ELEVATION, _RANGE and so on; 0 when neither angles nor range
 * are known. Where only one of them is, the other is HARRIER_NO_ANGLE or HARRIER_NO_RANGE. */
const uint8_t *harrier_position(const harrier *h, const uint8_t *record);

/* Where the object was expected when the message was sent, for HARRIER_GET_PREDICTION_NOW_X1 and so on; 0 when nothing
 * is expected. */
const uint8_t *harrier_prediction(const harrier *h, const uint8_t *record);

/* A record's place on the robot, for HARRIER_GET_BASE_X (ahead), _Y (left), _Z (up) and _SIGMA, all in 1/50 m; 0 when it
 * is not known. */
const uint8_t *harrier_base(const harrier *h, const uint8_t *record);

static inline uint16_t harrier_class_id(const uint8_t *record) { return HARRIER_GET_DETECTION_CLASS_ID(record); }
/* 65535 is 1.0. */
static inline uint16_t harrier_score(const uint8_t *record) { return HARRIER_GET_DETECTION_SCORE(record); }
/* HARRIER_NO_TRACK for none. */
static inline uint16_t harrier_track_id(const uint8_t *record) { return HARRIER_GET_DETECTION_TRACK_ID(record); }
/* Edges of the box in 1/8 pixel of the frame. */
static inline uint16_t harrier_x1(const uint8_t *record) { return HARRIER_GET_DETECTION_X1(record); }
static inline uint16_t harrier_y1(const uint8_t *record) { return HARRIER_GET_DETECTION_Y1(record); }
static inline uint16_t harrier_x2(const uint8_t *record) { return HARRIER_GET_DETECTION_X2(record); }
static inline uint16_t harrier_y2(const uint8_t *record) { return HARRIER_GET_DETECTION_Y2(record); }

/* Where the box's centre is: -1000 at the left edge of the frame, 0 in the middle, 1000 at the right edge. */
int16_t harrier_offset_x(const harrier *h, const uint8_t *record);

/* The sender's Unix time in ns, by its answers to harrier_write_clock(); 0 while unknown or older than half an hour. */
uint64_t harrier_unix_ns(const harrier *h, uint32_t now_us);

/* By how much harrier_unix_ns() may be wrong, in us: half the way there and back, and the drift since. */
uint32_t harrier_unix_error_us(const harrier *h, uint32_t now_us);

/* ---- what the controller says: framed, to be sent as it is; bytes written are returned, 0 for want of room ---- */

#define HARRIER_CLOCK_FRAME_BYTES 42u
#define HARRIER_CREDIT_FRAME_BYTES 19u
#define HARRIER_CONTROL_FRAME_BYTES(n) (23u + 2u * (n)) /* with n class ids, at most 100 */

/* A question for the time. Send it at once; the answer is taken by harrier_feed(). Every 10 s is enough. */
uint16_t harrier_write_clock(uint8_t *out, uint16_t room, uint32_t now_us);

/* This controller can take so many more results; from the first one on it gets no more than that. */
uint16_t harrier_write_credit(uint8_t *out, uint16_t room, uint16_t results);

/* What it wants: kinds (bit n: kind n; 0 all), results a second times 10 (0 all), class ids (none: all), and a command
 * (HARRIER_COMMAND_...). Harrier obeys where it was started with control=view or control=all. */
uint16_t harrier_write_control(uint8_t *out, uint16_t room, uint16_t kinds, uint16_t max_rate_dhz,
                               const uint16_t *class_ids, uint8_t n, uint8_t command);

#ifdef __cplusplus
}
#endif

#endif
