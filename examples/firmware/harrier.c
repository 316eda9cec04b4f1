#include "harrier.h"

#include <string.h>

/* The interrupt may be on another core (ESP32, RP2040), so this orders memory as well as the compiler. */
#ifndef HARRIER_FENCE
#if defined(__GNUC__)
#define HARRIER_FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#else
#error "define HARRIER_FENCE() as your compiler's full memory fence"
#endif
#endif

/* One reader serves both kinds of result. */
typedef char harrier_results_begin_alike
    [(HARRIER_AT_DETECTIONS_TTL_MS == HARRIER_AT_CLASSIFICATION_TTL_MS &&
      HARRIER_AT_DETECTIONS_AGE_US == HARRIER_AT_CLASSIFICATION_AGE_US &&
      HARRIER_AT_DETECTIONS_FRAME_WIDTH == HARRIER_AT_CLASSIFICATION_FRAME_WIDTH &&
      HARRIER_AT_DETECTIONS_TIMESTAMP == HARRIER_AT_CLASSIFICATION_TIMESTAMP &&
      HARRIER_AT_DETECTION_CLASS_ID == HARRIER_AT_CLASS_ID &&
      HARRIER_AT_DETECTION_SCORE == HARRIER_AT_CLASS_SCORE)
         ? 1
         : -1];

enum { BETWEEN, INSIDE, OVERFLOWN }; /* reception */

/* ---- handing over from the interrupt to the loop ----
 *
 * Only whole bytes are written and read at once, so 8-bit controllers need no lock. feed never writes the place that
 * is the newest, nor the one it has seen the loop reading. The loop says what it is about to read and then looks again:
 * where that is still the newest, feed has not chosen it for writing and, having been told, will not. */

static void offer(harrier_latch *latch)
{
    uint8_t newest = latch->writing, reading;
    HARRIER_FENCE();
    latch->newest = newest;
    HARRIER_FENCE();
    reading = latch->reading;
    latch->writing = (uint8_t)(newest != reading ? 3 - newest - reading : newest == 2 ? 0 : newest + 1);
}

static uint8_t take(harrier_latch *latch)
{
    uint8_t newest;
    do {
        newest = latch->newest;
        latch->reading = newest;
        HARRIER_FENCE();
    } while (latch->newest != newest);
    return newest;
}

/* ---- checking ---- */

/* CRC-16/IBM-3740, polynomial 0x1021: eight shifts at once, without a table. */
static uint16_t crc_add(uint16_t crc, uint8_t byte)
{
    crc = (uint16_t)(crc >> 8 | crc << 8);
    crc = (uint16_t)(crc ^ byte);
    crc = (uint16_t)(crc ^ (crc & 0xFF) >> 4);
    crc = (uint16_t)(crc ^ crc << 12);
    return (uint16_t)(crc ^ (crc & 0xFF) << 5);
}

static uint8_t record_bytes(const uint8_t *message)
{
    if (HARRIER_GET_HEADER_KIND(message) == HARRIER_KIND_CLASSIFICATION)
        return HARRIER_CLASS_BYTES;
    return (uint8_t)(HARRIER_DETECTION_BYTES + HARRIER_BLOCKS_BYTES(HARRIER_GET_DETECTIONS_BLOCKS(message)));
}

static const uint8_t *records(const uint8_t *message, uint8_t *count)
{
    if (HARRIER_GET_HEADER_KIND(message) == HARRIER_KIND_CLASSIFICATION) {
        *count = HARRIER_GET_CLASSIFICATION_COUNT(message);
        return message + HARRIER_CLASSIFICATION_REST_AT;
    }
    *count = HARRIER_GET_DETECTIONS_COUNT(message);
    return message + HARRIER_DETECTIONS_REST_AT;
}

static uint8_t strings(const uint8_t *message, uint16_t *at)
{
    switch (HARRIER_GET_HEADER_KIND(message)) {
    case HARRIER_KIND_STATUS:
        *at = HARRIER_STATUS_REST_AT;
        return HARRIER_STATUS_STRINGS;
    case HARRIER_KIND_HELLO:
        *at = HARRIER_HELLO_REST_AT;
        return HARRIER_HELLO_STRINGS;
    case HARRIER_KIND_LABELS:
        *at = HARRIER_LABELS_REST_AT;
        return HARRIER_GET_LABELS_COUNT(message);
    case HARRIER_KIND_REGION:
        *at = HARRIER_REGION_REST_AT;
        return HARRIER_REGION_STRINGS;
    default:
        return 0;
    }
}

static uint8_t strings_end_at(const uint8_t *message, uint16_t end)
{
    uint16_t at = end;
    uint8_t n = strings(message, &at);
    while (n--) {
        if (at >= end)
            return 0;
        at = (uint16_t)(at + 1 + message[at]);
    }
    return at == end;
}

/* Whether its length and its numbers are those of an undamaged message of its kind; needs the header. */
static uint8_t is_regular(const uint8_t *message, uint16_t size)
{
    uint16_t end = (uint16_t)(size - HARRIER_CHECKSUM_BYTES);
    const uint8_t *rest;
    uint8_t count;
    switch (HARRIER_GET_HEADER_KIND(message)) {
    case HARRIER_KIND_DETECTIONS:
        if (size < HARRIER_DETECTIONS_LEAST_BYTES || HARRIER_GET_DETECTIONS_BLOCKS(message) > HARRIER_ALL_BLOCKS)
            return 0;
        break;
    case HARRIER_KIND_CLASSIFICATION:
        if (size < HARRIER_CLASSIFICATION_LEAST_BYTES)
            return 0;
        break;
    case HARRIER_KIND_HEARTBEAT:
        return size == HARRIER_HEARTBEAT_LEAST_BYTES && HARRIER_GET_HEARTBEAT_STATE(message) < HARRIER_STATE_COUNT;
    case HARRIER_KIND_STATUS:
        return size >= HARRIER_STATUS_LEAST_BYTES && HARRIER_GET_STATUS_STATE(message) < HARRIER_STATE_COUNT &&
               strings_end_at(message, end);
    case HARRIER_KIND_HELLO:
        return size >= HARRIER_HELLO_LEAST_BYTES && strings_end_at(message, end);
    case HARRIER_KIND_LABELS:
        return size >= HARRIER_LABELS_LEAST_BYTES && strings_end_at(message, end);
    case HARRIER_KIND_CLOCK:
        return size == HARRIER_CLOCK_LEAST_BYTES && HARRIER_GET_CLOCK_REPLY(message) <= 1;
    case HARRIER_KIND_REGION:
        return size >= HARRIER_REGION_LEAST_BYTES && HARRIER_GET_REGION_EVENT(message) < HARRIER_EVENT_COUNT &&
               HARRIER_GET_REGION_DIRECTION(message) < HARRIER_DIRECTION_COUNT &&
               HARRIER_GET_REGION_LOST(message) <= 1 && strings_end_at(message, end);
    default:
        return 0; /* the others are what controllers say */
    }
    rest = records(message, &count);
    return HARRIER_GET_DETECTIONS_TIMESTAMP(message) < HARRIER_TIMESTAMP_COUNT &&
           rest + (uint16_t)(count * record_bytes(message)) == message + end;
}

static uint8_t is_ours(const uint8_t *message)
{
    return HARRIER_GET_HEADER_MAGIC(message) == HARRIER_MAGIC &&
           HARRIER_GET_HEADER_VERSION(message) == HARRIER_VERSION &&
           HARRIER_GET_HEADER_FORMAT_HASH(message) == HARRIER_FORMAT_HASH &&
           HARRIER_GET_HEADER_FLAGS(message) <= HARRIER_ALL_FLAGS;
}

/* ---- receiving ---- */

static void publish_news(harrier *h)
{
    h->tellings[h->told.writing] = h->news;
    offer(&h->told);
}

static void sign_of_life(harrier *h)
{
    h->news.life_us = h->began_us;
    h->news.lives++;
}

static void take_result(harrier *h, harrier_slot *slot, uint8_t *message)
{
    uint32_t seq = HARRIER_GET_HEADER_SEQ(message), step = seq - h->seq;
    uint16_t source_id = HARRIER_GET_HEADER_SOURCE_ID(message);
    if (h->number && source_id == h->source_id && step && step < 0x80000000u)
        h->news.counts.missed = (uint16_t)(h->news.counts.missed + step - 1);
    h->seq = seq;
    h->source_id = source_id;
    if (++h->number == 0)
        h->number = 1; /* 0 is none */
    slot->number = h->number;
    slot->arrived_us = h->began_us;
    slot->size = h->size;
    sign_of_life(h);
}

/* D. L. Mills' four times. Of two answers that one is better whose way was shorter, but clocks drift meanwhile. */
static void take_time(harrier *h, const uint8_t *message, uint32_t now_us)
{
    harrier_news *news = &h->news;
    uint64_t received_ns = HARRIER_GET_CLOCK_T_RECEIVE_NS(message), sent_ns = HARRIER_GET_CLOCK_T_REPLY_NS(message);
    /* the question said us * 1000: dividing a multiple of 125 by it is multiplying by its inverse modulo 2^32 */
    uint32_t asked_us = (uint32_t)(HARRIER_GET_CLOCK_T_REQUEST_NS(message) >> 3) * 652835029u;
    uint32_t wait_us = now_us - asked_us, since_us = now_us - news->clock_us, wait_ns;
    if (!HARRIER_GET_CLOCK_REPLY(message) || wait_us > 4000000u || sent_ns < received_ns)
        return;
    wait_ns = wait_us * 1000;
    wait_ns = sent_ns - received_ns < wait_ns ? wait_ns - (uint32_t)(sent_ns - received_ns) : 0;
    if (news->clock_ns && since_us < (1ul << 27) &&
        wait_ns / 2 > news->clock_wait_ns / 2 + (since_us >> 10) * HARRIER_DRIFT_PPM)
        return;
    news->clock_ns = sent_ns + wait_ns / 2;
    news->clock_us = now_us;
    news->clock_wait_ns = wait_ns;
}

static uint8_t take_message(harrier *h, harrier_slot *slot, uint32_t now_us)
{
    uint8_t *message = slot->bytes, kind;
    if (!is_ours(message) || !is_regular(message, h->size)) {
        h->news.counts.foreign++;
        return 0;
    }
    h->news.counts.messages++;
    h->news.flags = HARRIER_GET_HEADER_FLAGS(message);
    kind = HARRIER_GET_HEADER_KIND(message);
    switch (kind) {
    case HARRIER_KIND_DETECTIONS:
    case HARRIER_KIND_CLASSIFICATION:
        take_result(h, slot, message);
        break;
    case HARRIER_KIND_HEARTBEAT:
        h->news.period_ms = HARRIER_GET_HEARTBEAT_PERIOD_MS(message);
        h->news.source_state = HARRIER_GET_HEARTBEAT_STATE(message);
        sign_of_life(h);
        break;
    case HARRIER_KIND_STATUS:
        h->news.source_state = HARRIER_GET_STATUS_STATE(message);
        break;
    case HARRIER_KIND_CLOCK:
        take_time(h, message, now_us);
        break;
    default:
        break;
    }
    return kind;
}

static void begin(harrier *h)
{
    h->reception = BETWEEN;
    h->size = 0;
    h->crc = 0xFFFF;
    h->left = 0;
    h->block = 255; /* the first block stands for no zero */
}

static void put(harrier *h, uint8_t byte)
{
    uint8_t *bytes = h->slots[h->results.writing].bytes;
    if (h->size == HARRIER_BUFFER_BYTES) {
        if (h->reception == INSIDE) {
            h->news.counts.too_long++;
            publish_news(h);
        }
        h->reception = OVERFLOWN;
        return;
    }
    if (h->size >= HARRIER_CHECKSUM_BYTES) /* the last two are not summed up */
        h->crc = crc_add(h->crc, bytes[h->size - HARRIER_CHECKSUM_BYTES]);
    bytes[h->size++] = byte;
}

static uint8_t end(harrier *h, uint32_t now_us)
{
    harrier_slot *slot = &h->slots[h->results.writing];
    uint8_t kind = 0;
    h->whole = h->results.writing;
    if (h->reception == INSIDE) {
        if (h->left || h->size < HARRIER_HEADER_BYTES + HARRIER_CHECKSUM_BYTES ||
            h->crc != harrier_get_u16(slot->bytes + h->size - HARRIER_CHECKSUM_BYTES))
            h->news.counts.bad++;
        else
            kind = take_message(h, slot, now_us);
        publish_news(h);
        /* last, so that whoever finds the result finds its sign of life too */
        if (kind == HARRIER_KIND_DETECTIONS || kind == HARRIER_KIND_CLASSIFICATION)
            offer(&h->results);
    }
    begin(h);
    return kind;
}

uint8_t harrier_feed(harrier *h, uint8_t byte, uint32_t now_us)
{
    if (byte == 0)
        return end(h, now_us);
    if (h->reception == BETWEEN) {
        h->reception = INSIDE;
        h->began_us = now_us;
    }
    if (h->left == 0) {
        if (h->block != 255)
            put(h, 0);
        h->block = byte;
        h->left = (uint8_t)(byte - 1);
    } else {
        put(h, byte);
        h->left--;
    }
    return 0;
}

uint8_t harrier_feed_datagram(harrier *h, const uint8_t *bytes, uint16_t size, uint32_t now_us)
{
    begin(h);
    h->reception = INSIDE;
    h->began_us = now_us;
    while (size--)
        put(h, *bytes++);
    return end(h, now_us);
}

const uint8_t *harrier_message(const harrier *h)
{
    return h->slots[h->whole].bytes;
}

uint8_t harrier_string(const uint8_t *message, uint8_t i, const char **text)
{
    uint16_t at = 0;
    *text = 0;
    if (i >= strings(message, &at))
        return 0;
    while (i--)
        at = (uint16_t)(at + 1 + message[at]);
    *text = (const char *)message + at + 1;
    return message[at];
}

/* ---- judging ---- */

void harrier_init(harrier *h, harrier_stop stop)
{
    volatile uint8_t *byte = (volatile uint8_t *)h; /* volatile: no call of memset is made of this */
    uint16_t left = sizeof *h;
    while (left--)
        *byte++ = 0;
    h->stop = stop;
    h->results.writing = 1;
    h->told.writing = 1;
    begin(h);
}

/* now may have been read just before the interrupt read a later time: a second ahead is taken for now, and no more, for
 * a loop that stood still for long must find everything old. */
static uint32_t elapsed_us(uint32_t now_us, uint32_t then_us)
{
    uint32_t elapsed = now_us - then_us;
    return elapsed <= 0xFFFFFFFFu - 1000000u ? elapsed : 0;
}

static uint8_t is_fresh(const harrier_slot *slot, uint32_t now_us)
{
    uint32_t ttl_ms = HARRIER_GET_DETECTIONS_TTL_MS(slot->bytes), age_us = HARRIER_GET_DETECTIONS_AGE_US(slot->bytes);
    if (ttl_ms == 0 || ttl_ms > HARRIER_MAX_TTL_MS)
        ttl_ms = HARRIER_MAX_TTL_MS;
    return age_us <= ttl_ms * 1000 && elapsed_us(now_us, slot->arrived_us) <= ttl_ms * 1000 - age_us;
}

/* Whatever is over is remembered as over, so that a counter that wraps brings nothing back to life. */
harrier_state harrier_tick(harrier *h, uint32_t now_us)
{
    const harrier_slot *slot = &h->slots[take(&h->results)]; /* before the news: see end() */
    const harrier_news *news = &h->tellings[take(&h->told)];
    uint32_t period_ms = news->period_ms ? news->period_ms : HARRIER_MAX_TTL_MS;
    harrier_state state;
    uint8_t count;
    if (news->lives != h->seen_lives)
        h->alive = h->heard = 1;
    h->seen_lives = news->lives;
    if (elapsed_us(now_us, news->life_us) > period_ms * 3500) /* three are missing, and none was just a bit late */
        h->alive = 0;
    h->is_new = slot->number != h->seen_number;
    h->seen_number = slot->number;
    h->fresh = (uint8_t)((h->fresh || h->is_new) && h->alive && is_fresh(slot, now_us));
    if (news->clock_us != h->seen_clock_us)
        h->timed = 1;
    h->seen_clock_us = news->clock_us;
    if (elapsed_us(now_us, news->clock_us) > 1800000000u)
        h->timed = 0;
    if (h->fresh) {
        records(slot->bytes, &count);
        state = count ? HARRIER_SEEING : HARRIER_CLEAR;
    } else {
        state = !h->heard ? HARRIER_WAITING : h->alive ? HARRIER_STALE : HARRIER_DEAD;
    }
    if (state != h->state || !h->ticked) {
        h->state = state;
        h->ticked = 1;
        if (state < HARRIER_CLEAR && h->stop)
            h->stop(h, state);
    }
    return state;
}

const char *harrier_state_name(harrier_state state)
{
    switch (state) {
    case HARRIER_WAITING:
        return "waiting";
    case HARRIER_DEAD:
        return "dead";
    case HARRIER_STALE:
        return "stale";
    case HARRIER_CLEAR:
        return "clear";
    default:
        return "seeing";
    }
}

/* ---- reading ---- */

uint32_t harrier_age_us(const harrier *h, uint32_t now_us)
{
    const harrier_slot *slot = &h->slots[h->results.reading];
    if (!h->fresh)
        return 0xFFFFFFFFu;
    return HARRIER_GET_DETECTIONS_AGE_US(slot->bytes) + elapsed_us(now_us, slot->arrived_us);
}

uint8_t harrier_count(const harrier *h)
{
    const uint8_t *message = harrier_result(h);
    uint8_t count = 0;
    if (message)
        records(message, &count);
    return count;
}

const uint8_t *harrier_record(const harrier *h, uint8_t i)
{
    const uint8_t *message = harrier_result(h), *first;
    uint8_t count;
    if (!message)
        return 0;
    first = records(message, &count);
    return i < count ? first + (uint16_t)(i * record_bytes(message)) : 0;
}

const uint8_t *harrier_best(const harrier *h, uint16_t class_id)
{
    const uint8_t *best = 0, *record;
    uint8_t i, count = harrier_count(h);
    for (i = 0; i < count; i++) {
        record = harrier_record(h, i);
        if (class_id != HARRIER_NO_CLASS && harrier_class_id(record) != class_id)
            continue;
        if (!best || harrier_score(record) > harrier_score(best))
            best = record;
    }
    return best;
}

static const uint8_t *block_of(const harrier *h, const uint8_t *record, uint8_t bit)
{
    const uint8_t *message = harrier_result(h);
    uint8_t blocks;
    if (!message || !record || HARRIER_GET_HEADER_KIND(message) != HARRIER_KIND_DETECTIONS)
        return 0;
    blocks = HARRIER_GET_DETECTIONS_BLOCKS(message);
    return blocks & bit ? record + HARRIER_DETECTION_BYTES + HARRIER_BLOCKS_BYTES(blocks & (bit - 1u)) : 0;
}

const uint8_t *harrier_velocity(const harrier *h, const uint8_t *record)
{
    const uint8_t *v = block_of(h, record, HARRIER_BLOCK_VELOCITY);
    return v && HARRIER_GET_VELOCITY_X(v) != HARRIER_NO_SPEED ? v : 0;
}

const uint8_t *harrier_position(const harrier *h, const uint8_t *record)
{
    const uint8_t *p = block_of(h, record, HARRIER_BLOCK_POSITION);
    if (p && HARRIER_GET_POSITION_AZIMUTH(p) == HARRIER_NO_ANGLE && HARRIER_GET_POSITION_RANGE(p) == HARRIER_NO_RANGE)
        return 0;
    return p;
}

const uint8_t *harrier_prediction(const harrier *h, const uint8_t *record)
{
    const uint8_t *p = block_of(h, record, HARRIER_BLOCK_PREDICTION);
    return p && HARRIER_GET_PREDICTION_NOW_SIGMA(p) != HARRIER_NO_SIGMA ? p : 0;
}

const uint8_t *harrier_base(const harrier *h, const uint8_t *record)
{
    const uint8_t *p = block_of(h, record, HARRIER_BLOCK_BASE);
    return p && HARRIER_GET_BASE_X(p) != HARRIER_NO_PLACE ? p : 0;
}

int16_t harrier_offset_x(const harrier *h, const uint8_t *record)
{
    const uint8_t *message = harrier_result(h);
    int32_t half, offset;
    if (!message || !record || HARRIER_GET_HEADER_KIND(message) != HARRIER_KIND_DETECTIONS)
        return 0;
    half = (int32_t)HARRIER_GET_DETECTIONS_FRAME_WIDTH(message) * HARRIER_SCALE_DETECTION_X1; /* in 1/16 px */
    if (half == 0)
        return 0;
    offset = ((int32_t)harrier_x1(record) + harrier_x2(record) - half) * 1000 / half;
    return (int16_t)(offset > 1000 ? 1000 : offset < -1000 ? -1000 : offset);
}

uint64_t harrier_unix_ns(const harrier *h, uint32_t now_us)
{
    const harrier_news *news = harrier_told(h);
    if (!h->timed)
        return 0;
    return news->clock_ns + (uint64_t)elapsed_us(now_us, news->clock_us) * 1000;
}

uint32_t harrier_unix_error_us(const harrier *h, uint32_t now_us)
{
    const harrier_news *news = harrier_told(h);
    if (!h->timed)
        return 0xFFFFFFFFu;
    return news->clock_wait_ns / 2000 + elapsed_us(now_us, news->clock_us) / (1000000u / HARRIER_DRIFT_PPM) + 1;
}

/* ---- sending ---- */

/* The message is made where it will stand between the zeros: behind a zero and the first code of COBS. */
static uint8_t *begin_message(uint8_t *out, uint8_t kind)
{
    uint8_t *message = out + 2;
    HARRIER_PUT_HEADER_MAGIC(message, HARRIER_MAGIC);
    HARRIER_PUT_HEADER_VERSION(message, HARRIER_VERSION);
    HARRIER_PUT_HEADER_KIND(message, kind);
    HARRIER_PUT_HEADER_FLAGS(message, 0);
    HARRIER_PUT_HEADER_FORMAT_HASH(message, HARRIER_FORMAT_HASH);
    HARRIER_PUT_HEADER_SOURCE_ID(message, 0xFFFF); /* of a source without a name */
    HARRIER_PUT_HEADER_SEQ(message, 0);
    return message;
}

/* Under 254 bytes COBS is done in place: every zero becomes the distance to the next. */
static uint16_t end_message(uint8_t *out, uint16_t size)
{
    uint16_t i, end = (uint16_t)(size + 2), code = 1, crc = 0xFFFF;
    for (i = 2; i < end - HARRIER_CHECKSUM_BYTES; i++)
        crc = crc_add(crc, out[i]);
    harrier_put_u16(out + i, crc);
    for (i = 2; i < end; i++) {
        if (out[i] == 0) {
            out[code] = (uint8_t)(i - code);
            code = i;
        }
    }
    out[code] = (uint8_t)(end - code);
    out[0] = out[end] = 0;
    return (uint16_t)(end + 1);
}

uint16_t harrier_write_clock(uint8_t *out, uint16_t room, uint32_t now_us)
{
    uint8_t *message;
    if (room < HARRIER_CLOCK_FRAME_BYTES)
        return 0;
    message = begin_message(out, HARRIER_KIND_CLOCK);
    HARRIER_PUT_CLOCK_REPLY(message, 0);
    HARRIER_PUT_CLOCK_T_REQUEST_NS(message, (uint64_t)now_us * 1000);
    HARRIER_PUT_CLOCK_T_RECEIVE_NS(message, 0);
    HARRIER_PUT_CLOCK_T_REPLY_NS(message, 0);
    return end_message(out, HARRIER_CLOCK_LEAST_BYTES);
}

uint16_t harrier_write_credit(uint8_t *out, uint16_t room, uint16_t results)
{
    uint8_t *message;
    if (room < HARRIER_CREDIT_FRAME_BYTES)
        return 0;
    message = begin_message(out, HARRIER_KIND_CREDIT);
    HARRIER_PUT_CREDIT_RESULTS(message, results);
    return end_message(out, HARRIER_CREDIT_LEAST_BYTES);
}

uint16_t harrier_write_control(uint8_t *out, uint16_t room, uint16_t kinds, uint16_t max_rate_dhz,
                               const uint16_t *class_ids, uint8_t n, uint8_t command)
{
    uint8_t *message, *wanted;
    uint8_t i;
    if (n > 100 || room < HARRIER_CONTROL_FRAME_BYTES(n))
        return 0;
    message = begin_message(out, HARRIER_KIND_CONTROL);
    HARRIER_PUT_CONTROL_KINDS(message, kinds);
    HARRIER_PUT_CONTROL_MAX_RATE_HZ(message, max_rate_dhz);
    HARRIER_PUT_CONTROL_COMMAND(message, command);
    HARRIER_PUT_CONTROL_COUNT(message, n);
    wanted = message + HARRIER_CONTROL_REST_AT;
    for (i = 0; i < n; i++, wanted += HARRIER_WANTED_BYTES)
        HARRIER_PUT_WANTED_CLASS_ID(wanted, class_ids[i]);
    return end_message(out, (uint16_t)(HARRIER_CONTROL_LEAST_BYTES + n * HARRIER_WANTED_BYTES));
}
