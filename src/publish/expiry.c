// SPDX-License-Identifier: MIT
// Which certificates end soon: a look over all of them every minute, and shortly after a change, in
// slices of the control loop.
#include "base/clock.h"
#include "publish/publish_int.h"

enum {
    LOOK_MS = 60000,
    SOON_MS = 100,   // after a change
    LATER_MS = 2000, // the same where one look takes several slices
    SLICE_COUNT = 2000,
    SLICE_MS = 5,
    DAY_SEC = 24 * 3600,
};

void publisher_listen_certificates(struct publisher *publisher,
                                   struct publish_certificate_listener *listener)
{
    list_append(&publisher->certificate_listeners, &listener->node);
}

void tell_certificate(struct publisher *publisher, const struct publish_certificate_event *event)
{
    LIST_FOR_EACH_SAFE (node, &publisher->certificate_listeners) {
        struct publish_certificate_listener *listener =
            CONTAINER_OF(node, struct publish_certificate_listener, node);
        listener->on_event(listener, event);
    }
}

struct look {
    struct publisher *publisher;
    uint64_t now_sec;
};

// The tightest threshold that it has passed, and those before it with it.
static void announce(const struct look *look, struct cert_version *version, uint64_t days)
{
    static const uint64_t thresholds[] = {30, 7, 1};
    bool is_over = version->facts.not_after <= look->now_sec;
    unsigned passed = is_over ? 4 : 0;
    for (unsigned i = 0; !is_over && i < 3; i++) {
        passed = days < thresholds[i] ? i + 1 : passed;
    }
    if (passed <= version->announced) {
        return;
    }
    version->announced = (uint8_t)passed;
    struct publish_certificate_event event = {.name = cert_slot_name(version->slot),
                                              .state = is_over ? "expired" : "expiring",
                                              .not_after = version->facts.not_after,
                                              .days_left = days,
                                              .detail = ""};
    tell_certificate(look->publisher, &event);
}

static void visit(void *context, struct cert_version *version)
{
    const struct look *look = context;
    struct expiry_sum *sum = &look->publisher->expiry.building;
    uint64_t end = version->facts.not_after;
    uint64_t days = end <= look->now_sec ? 0 : (end - look->now_sec) / DAY_SEC;
    if (end <= look->now_sec) {
        sum->expired++;
    } else {
        sum->by_days[days < EXPIRY_DAYS ? days : EXPIRY_DAYS - 1]++;
    }
    if (sum->next == 0 || end < sum->next) {
        sum->next = end;
        str_copy(sum->next_name, sizeof sum->next_name, cert_slot_name(version->slot));
    }
    announce(look, version, days);
}

static uint64_t soon_ms(const struct publisher *publisher)
{
    return publisher_certificate_count(publisher) > SLICE_COUNT ? LATER_MS : SOON_MS;
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct expiry *expiry = CONTAINER_OF(timer, struct expiry, timer);
    struct publisher *publisher = CONTAINER_OF(expiry, struct publisher, expiry);
    struct look look = {.publisher = publisher, .now_sec = clock_real_ns() / NS_PER_SEC};
    if (!expiry->is_looking) {
        expiry->building = (struct expiry_sum){0};
        expiry->position = 0;
        expiry->is_looking = true;
        expiry->is_stale = false;
    }
    if (cert_table_visit(publisher->certs, &expiry->position, SLICE_COUNT, visit, &look)) {
        loop_timer_set(loop, timer, SLICE_MS);
        return;
    }
    expiry->is_looking = false;
    expiry->sum = expiry->building;
    loop_timer_set(loop, timer, expiry->is_stale ? soon_ms(publisher) : LOOK_MS);
}

void expiry_start(struct publisher *publisher)
{
    loop_timer_init(&publisher->expiry.timer, on_timer);
    if (publisher->certs != NULL) {
        loop_timer_set(publisher->control, &publisher->expiry.timer, SOON_MS);
    }
}

void expiry_stop(struct publisher *publisher)
{
    loop_timer_cancel(publisher->control, &publisher->expiry.timer);
    publisher->expiry.is_looking = false;
}

void expiry_changed(struct publisher *publisher)
{
    struct expiry *expiry = &publisher->expiry;
    // Not put off by the next change: the look comes in time.
    if (publisher->control != NULL && !expiry->is_looking && !expiry->is_stale) {
        loop_timer_set(publisher->control, &expiry->timer, soon_ms(publisher));
    }
    expiry->is_stale = true;
}

uint64_t publisher_expiring(const struct publisher *publisher, uint64_t within_sec)
{
    const struct expiry_sum *sum = &publisher->expiry.sum;
    uint64_t count = sum->expired;
    for (uint64_t day = 0; day < within_sec / DAY_SEC && day < EXPIRY_DAYS - 1; day++) {
        count += sum->by_days[day];
    }
    return count;
}

uint64_t publisher_next_expiry(const struct publisher *publisher, char *name, size_t size)
{
    const struct expiry_sum *sum = &publisher->expiry.sum;
    str_copy(name, size, str_from_c(sum->next_name));
    return sum->next;
}
