/* The C library as the tests drive it, through ctypes: bytes in, messages out as JSON lines. */
#include "harrier.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static harrier controller;
static char *out;
static size_t room;
static char stops[4096];

static void say(const char *format, ...)
{
    va_list arguments;
    int n;
    va_start(arguments, format);
    n = vsnprintf(out, room, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= room)
        n = room ? (int)room - 1 : 0;
    out += n;
    room -= (size_t)n;
}

static void say_flags(uint8_t flags)
{
    static const char *names[] = {"degraded", "fallback", "stale", "throttled"};
    uint8_t i, first = 1;
    say("\"flags\":[");
    for (i = 0; i < 4; i++) {
        if (flags >> i & 1) {
            say("%s\"%s\"", first ? "" : ",", names[i]);
            first = 0;
        }
    }
    say("]");
}

static void say_head(const uint8_t *m, const char *kind)
{
    say("{\"kind\":\"%s\",\"seq\":%lu,", kind, (unsigned long)HARRIER_GET_HEADER_SEQ(m));
    if (HARRIER_GET_HEADER_KIND(m) != HARRIER_KIND_HELLO)
        say("\"source\":\"source-%04x\",", HARRIER_GET_HEADER_SOURCE_ID(m));
    say_flags(HARRIER_GET_HEADER_FLAGS(m));
}

static void say_string(const uint8_t *m, uint8_t i)
{
    const char *text;
    uint8_t size = harrier_string(m, i, &text), at;
    say("\"");
    for (at = 0; at < size; at++)
        say(text[at] == '"' || text[at] == '\\' || (uint8_t)text[at] < 32 ? "\\u%04x" : "%c", (uint8_t)text[at]);
    say("\"");
}

static void say_captured(const uint8_t *m)
{
    static const char *stamps[] = {"driver", "pts", "arrival", "generated"};
    uint64_t capture = HARRIER_GET_DETECTIONS_T_CAPTURE_NS(m);
    uint32_t age = HARRIER_GET_DETECTIONS_AGE_US(m), model = HARRIER_GET_DETECTIONS_MODEL_ID(m);
    say(",\"t_capture_ns\":%llu,\"t_publish_ns\":%llu", (unsigned long long)capture,
        (unsigned long long)capture + age * 1000ull);
    say(",\"age_ms\":%.17g,\"ttl_ms\":%u,\"model_id\":%lu", age / 1000.0, HARRIER_GET_DETECTIONS_TTL_MS(m),
        (unsigned long)model);
    say(",\"model\":\"model-%08lx\",\"frame\":[%u,%u],\"timestamp\":\"%s\"", (unsigned long)model,
        HARRIER_GET_DETECTIONS_FRAME_WIDTH(m), HARRIER_GET_DETECTIONS_FRAME_HEIGHT(m),
        stamps[HARRIER_GET_DETECTIONS_TIMESTAMP(m)]);
}

static void say_records(const char *name, uint8_t has_boxes)
{
    uint8_t i, count = harrier_count(&controller);
    say(",\"%s\":[", name);
    for (i = 0; i < count; i++) {
        const uint8_t *r = harrier_record(&controller, i), *v = harrier_velocity(&controller, r);
        const uint8_t *p = harrier_position(&controller, r), *n = harrier_prediction(&controller, r);
        const uint8_t *b = harrier_base(&controller, r);
        say("%s{\"label\":\"%u\",\"class_id\":%u,\"score\":%.17g", i ? "," : "", harrier_class_id(r),
            harrier_class_id(r), harrier_score(r) / (double)HARRIER_SCALE_DETECTION_SCORE);
        if (has_boxes) {
            say(",\"box\":[%.17g,%.17g,%.17g,%.17g]", harrier_x1(r) / 8.0, harrier_y1(r) / 8.0, harrier_x2(r) / 8.0,
                harrier_y2(r) / 8.0);
            if (harrier_track_id(r) != HARRIER_NO_TRACK)
                say(",\"track_id\":%u", harrier_track_id(r));
        }
        if (v)
            say(",\"velocity_px_s\":[%d,%d]", HARRIER_GET_VELOCITY_X(v), HARRIER_GET_VELOCITY_Y(v));
        if (p) {
            uint8_t seen = HARRIER_GET_POSITION_AZIMUTH(p) != HARRIER_NO_ANGLE;
            uint8_t ranged = HARRIER_GET_POSITION_RANGE(p) != HARRIER_NO_RANGE;
            if (seen)
                say(",\"bearing_rad\":[%.17g,%.17g]", HARRIER_GET_POSITION_AZIMUTH(p) / 1e4,
                    HARRIER_GET_POSITION_ELEVATION(p) / 1e4);
            if (seen && HARRIER_GET_POSITION_ANGLE_SIGMA(p) != HARRIER_NO_SIGMA)
                say(",\"bearing_sigma_rad\":%.17g", HARRIER_GET_POSITION_ANGLE_SIGMA(p) / 1e4);
            if (ranged)
                say(",\"range_m\":%.17g", HARRIER_GET_POSITION_RANGE(p) / 100.0);
            if (ranged && HARRIER_GET_POSITION_RANGE_SIGMA(p) != HARRIER_NO_SIGMA)
                say(",\"range_sigma_m\":%.17g", HARRIER_GET_POSITION_RANGE_SIGMA(p) / 100.0);
        }
        if (n)
            say(",\"predicted_box\":[%.17g,%.17g,%.17g,%.17g],\"predicted_sigma_px\":%.17g",
                HARRIER_GET_PREDICTION_NOW_X1(n) / 4.0, HARRIER_GET_PREDICTION_NOW_Y1(n) / 4.0,
                HARRIER_GET_PREDICTION_NOW_X2(n) / 4.0, HARRIER_GET_PREDICTION_NOW_Y2(n) / 4.0,
                HARRIER_GET_PREDICTION_NOW_SIGMA(n) / 4.0);
        if (n && HARRIER_GET_PREDICTION_UNSEEN_MS(n))
            say(",\"unseen_ms\":%u.0", HARRIER_GET_PREDICTION_UNSEEN_MS(n));
        if (b)
            say(",\"position_m\":[%.17g,%.17g,%.17g]", HARRIER_GET_BASE_X(b) / 50.0, HARRIER_GET_BASE_Y(b) / 50.0,
                HARRIER_GET_BASE_Z(b) / 50.0);
        if (b && HARRIER_GET_BASE_SIGMA(b) != HARRIER_NO_SIGMA)
            say(",\"position_sigma_m\":%.17g", HARRIER_GET_BASE_SIGMA(b) / 50.0);
        say("}");
    }
    say("]");
}

/* Records are read as firmware reads them, after a tick; the test's results carry ages beyond every time to live. */
static void believe(void)
{
    harrier_tick(&controller, controller.began_us);
    controller.fresh = 1;
}

static void say_region(const uint8_t *m)
{
    static const char *events[] = {"enter", "leave", "cross", "dwell"};
    static const char *directions[] = {"", "left_to_right", "right_to_left"};
    uint64_t then = HARRIER_GET_REGION_T_EVENT_NS(m);
    uint32_t age = HARRIER_GET_REGION_AGE_US(m);
    say_head(m, "region");
    say(",\"t_event_ns\":%llu,\"t_publish_ns\":%llu,\"age_ms\":%.17g", (unsigned long long)then,
        (unsigned long long)then + age * 1000ull, age / 1000.0);
    say(",\"model_id\":%lu,\"index\":%u,\"event\":\"%s\",\"direction\":\"%s\",\"lost\":%s",
        (unsigned long)HARRIER_GET_REGION_MODEL_ID(m), HARRIER_GET_REGION_REGION(m), events[HARRIER_GET_REGION_EVENT(m)],
        directions[HARRIER_GET_REGION_DIRECTION(m)], HARRIER_GET_REGION_LOST(m) ? "true" : "false");
    say(",\"class_id\":%u,\"label\":\"%u\",\"track_id\":%u", HARRIER_GET_REGION_CLASS_ID(m),
        HARRIER_GET_REGION_CLASS_ID(m), HARRIER_GET_REGION_TRACK_ID(m));
    if (HARRIER_GET_REGION_DWELL_MS(m))
        say(",\"dwell_ms\":%lu", (unsigned long)HARRIER_GET_REGION_DWELL_MS(m));
    if (HARRIER_GET_REGION_INSIDE(m) != HARRIER_NO_COUNT)
        say(",\"inside\":%u", HARRIER_GET_REGION_INSIDE(m));
    say(",\"region\":");
    say_string(m, 0);
}

static void say_message(uint8_t kind)
{
    static const char *states[] = {"connecting", "streaming", "stalled", "lost", "ended", "closed", "paused"};
    const uint8_t *m = harrier_message(&controller);
    uint8_t i;
    switch (kind) {
    case HARRIER_KIND_DETECTIONS:
        say_head(m, "detections");
        say_captured(m);
        believe();
        say_records("detections", 1);
        say(",\"omitted\":%u", HARRIER_GET_DETECTIONS_OMITTED(m));
        break;
    case HARRIER_KIND_CLASSIFICATION:
        say_head(m, "classification");
        say_captured(m);
        believe();
        say_records("classes", 0);
        break;
    case HARRIER_KIND_HEARTBEAT:
        say_head(m, "heartbeat");
        say(",\"t_publish_ns\":%llu,\"uptime_ms\":%lu,\"period_ms\":%u,\"state\":\"%s\"",
            (unsigned long long)HARRIER_GET_HEARTBEAT_T_PUBLISH_NS(m),
            (unsigned long)HARRIER_GET_HEARTBEAT_UPTIME_MS(m), HARRIER_GET_HEARTBEAT_PERIOD_MS(m),
            states[HARRIER_GET_HEARTBEAT_STATE(m)]);
        if (HARRIER_GET_HEARTBEAT_NEWEST_AGE_MS(m) != HARRIER_NO_AGE)
            say(",\"newest_age_ms\":%lu", (unsigned long)HARRIER_GET_HEARTBEAT_NEWEST_AGE_MS(m));
        break;
    case HARRIER_KIND_STATUS:
        say_head(m, "status");
        say(",\"t_publish_ns\":%llu,\"t_event_ns\":%llu,\"state\":\"%s\",\"engine\":",
            (unsigned long long)HARRIER_GET_STATUS_T_PUBLISH_NS(m),
            (unsigned long long)HARRIER_GET_STATUS_T_EVENT_NS(m), states[HARRIER_GET_STATUS_STATE(m)]);
        say_string(m, 0);
        say(",\"reason\":");
        say_string(m, 1);
        break;
    case HARRIER_KIND_HELLO:
        say_head(m, "hello");
        say(",\"model_id\":%lu,\"frame\":[%u,%u],\"class_count\":%u,\"ttl_ms\":%u,\"heartbeat_ms\":%u,\"software\":",
            (unsigned long)HARRIER_GET_HELLO_MODEL_ID(m), HARRIER_GET_HELLO_FRAME_WIDTH(m),
            HARRIER_GET_HELLO_FRAME_HEIGHT(m), HARRIER_GET_HELLO_CLASS_COUNT(m), HARRIER_GET_HELLO_TTL_MS(m),
            HARRIER_GET_HELLO_HEARTBEAT_MS(m));
        say_string(m, 0);
        say(",\"source\":");
        say_string(m, 1);
        say(",\"model\":");
        say_string(m, 2);
        say(",\"token\":");
        say_string(m, 3);
        say(",\"frame_id\":");
        say_string(m, 4);
        say(",\"base_frame_id\":");
        say_string(m, 5);
        break;
    case HARRIER_KIND_REGION:
        say_region(m);
        break;
    case HARRIER_KIND_LABELS:
        say_head(m, "labels");
        say(",\"model_id\":%lu,\"first\":%u,\"total\":%u,\"labels\":[", (unsigned long)HARRIER_GET_LABELS_MODEL_ID(m),
            HARRIER_GET_LABELS_FIRST(m), HARRIER_GET_LABELS_TOTAL(m));
        for (i = 0; i < HARRIER_GET_LABELS_COUNT(m); i++) {
            say(i ? "," : "");
            say_string(m, i);
        }
        say("]");
        break;
    case HARRIER_KIND_CLOCK:
        say_head(m, "clock");
        say(",\"reply\":%s,\"t_request_ns\":%llu,\"t_receive_ns\":%llu,\"t_reply_ns\":%llu",
            HARRIER_GET_CLOCK_REPLY(m) ? "true" : "false", (unsigned long long)HARRIER_GET_CLOCK_T_REQUEST_NS(m),
            (unsigned long long)HARRIER_GET_CLOCK_T_RECEIVE_NS(m), (unsigned long long)HARRIER_GET_CLOCK_T_REPLY_NS(m));
        break;
    default:
        say("{\"kind\":\"%u\"", kind);
        break;
    }
    say("}\n");
}

static void on_stop(harrier *h, harrier_state why)
{
    (void)h;
    strncat(stops, harrier_state_name(why), sizeof stops - strlen(stops) - 2);
    strncat(stops, " ", sizeof stops - strlen(stops) - 1);
}

void harness_start(void)
{
    stops[0] = 0;
    harrier_init(&controller, on_stop);
}

/* Feeds bytes at one time and writes what was complete with them as JSON lines; returns the length. */
size_t harness_feed(const uint8_t *bytes, size_t n, uint32_t now_us, char *text, size_t size)
{
    uint8_t kind;
    out = text;
    room = size;
    while (n--) {
        kind = harrier_feed(&controller, *bytes++, now_us);
        if (kind)
            say_message(kind);
    }
    return size - room;
}

size_t harness_datagram(const uint8_t *bytes, size_t n, uint32_t now_us, char *text, size_t size)
{
    uint8_t kind = harrier_feed_datagram(&controller, bytes, (uint16_t)n, now_us);
    out = text;
    room = size;
    if (kind)
        say_message(kind);
    return size - room;
}

/* Feeds without ever ticking or printing: the interrupt alone. */
void harness_interrupt(const uint8_t *bytes, size_t n, uint32_t now_us)
{
    while (n--)
        harrier_feed(&controller, *bytes++, now_us);
}

const char *harness_tick(uint32_t now_us)
{
    return harrier_state_name(harrier_tick(&controller, now_us));
}

const char *harness_stops(void) { return stops; }

void harness_counts(uint16_t *five)
{
    const harrier_counts *counts;
    harrier_tick(&controller, controller.began_us);
    counts = &harrier_told(&controller)->counts;
    five[0] = counts->messages;
    five[1] = counts->bad;
    five[2] = counts->too_long;
    five[3] = counts->foreign;
    five[4] = counts->missed;
}

uint8_t harness_count(void) { return harrier_count(&controller); }
uint8_t harness_is_new(void) { return harrier_is_new(&controller); }
uint32_t harness_age_us(uint32_t now_us) { return harrier_age_us(&controller, now_us); }
uint32_t harness_seq(void)
{
    const uint8_t *message = harrier_result(&controller);
    return message ? HARRIER_GET_HEADER_SEQ(message) : 0;
}
int harness_best(uint16_t class_id)
{
    const uint8_t *best = harrier_best(&controller, class_id);
    return best ? harrier_score(best) : -1;
}
int harness_offset(uint16_t class_id) { return harrier_offset_x(&controller, harrier_best(&controller, class_id)); }
uint64_t harness_unix_ns(uint32_t now_us) { return harrier_unix_ns(&controller, now_us); }
uint32_t harness_unix_error_us(uint32_t now_us) { return harrier_unix_error_us(&controller, now_us); }
uint8_t harness_source_state(void) { return harrier_told(&controller)->source_state; }

uint16_t harness_write_clock(uint8_t *frame, uint16_t size, uint32_t now_us)
{
    return harrier_write_clock(frame, size, now_us);
}
uint16_t harness_write_credit(uint8_t *frame, uint16_t size, uint32_t results)
{
    return harrier_write_credit(frame, size, (uint16_t)results);
}
uint16_t harness_write_control(uint8_t *frame, uint16_t size, uint16_t kinds, uint16_t rate, const uint16_t *ids,
                               uint8_t n, uint8_t command)
{
    return harrier_write_control(frame, size, kinds, rate, ids, n, command);
}

int harness_string_bytes(uint8_t i)
{
    const char *text;
    uint8_t size = harrier_string(harrier_message(&controller), i, &text);
    return text ? size : -1;
}
