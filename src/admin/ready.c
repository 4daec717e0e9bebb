// SPDX-License-Identifier: MIT
// Is this node alive, is it ready, and with ?verbose: what of it.
#include "admin/admin_int.h"

void call_health(struct call *call)
{
    answer_send(call, 200, "text/plain; charset=utf-8", STR("alive\n"));
}

static void put_fleet(const struct admin *admin, struct buf *out)
{
    struct fleet_status fleet;
    fleet_get_status(admin->deps.fleet, &fleet);
    unsigned long long revision = (unsigned long long)fleet.revision;
    const char *why = fleet.detail[0] == '\0' ? "" : ": ";
    if (fleet.state == FLEET_FOLLOWING && fleet.is_writable) {
        buf_printf(out, "[+]store ok: following %s, revision %llu\n", fleet.url, revision);
    } else if (fleet.state == FLEET_FOLLOWING) {
        buf_printf(out, "[-]store following %s, revision %llu, but it cannot be written%s%s\n",
                   fleet.url, revision, why, fleet.detail);
    } else {
        buf_printf(out, "[-]store %s for %.1f s: %s%s%s; serving revision %llu\n",
                   fleet_follow_name(fleet.state), (double)fleet.away_ms / 1e3, fleet.url, why,
                   fleet.detail, revision);
    }
}

static void put_store(const struct admin *admin, struct buf *out)
{
    struct store_status store;
    if (!admin_store_state(admin, &store) && admin->deps.fleet == NULL) {
        buf_printf(out, "[-]store cannot be written: %s\n", store.detail);
        return;
    }
    if (admin->deps.fleet != NULL) {
        put_fleet(admin, out);
        return;
    }
    if (admin->deps.files == NULL) {
        buf_put(out, STR("[+]store ok\n"));
        return;
    }
    struct files_status files;
    files_get_status(admin->deps.files, &files);
    bool is_good = files.is_folder_there && files.broken == 0 && files.refused == 0;
    buf_printf(out, "[%c]store %s %s: %llu files, %llu broken\n", is_good ? '+' : '-',
               is_good ? "ok: the files of" : "the files of", files.folder,
               (unsigned long long)files.files, (unsigned long long)files.broken);
}

static void put_checks(const struct admin *admin, const struct admin_status *status,
                       struct buf *out)
{
    if (status->is_ready || status->is_draining) {
        buf_printf(out, "[+]tables ok: %llu routes, revision %llu\n",
                   (unsigned long long)publisher_route_count(admin->publisher),
                   (unsigned long long)publisher_revision(admin->publisher));
    } else {
        buf_put(out, STR("[-]tables loading\n"));
    }
    put_store(admin, out);
    buf_put(out, status->is_draining ? STR("[-]listeners draining\n") : STR("[+]listeners ok\n"));
}

void call_ready(struct call *call)
{
    struct admin_status status = {.uptime_ms = 0};
    call->admin->deps.hooks->status(call->admin->deps.context, &status);
    bool is_ready = status.is_ready && !status.is_draining;
    struct buf *out = &call->out;
    buf_clear(out);
    if (call_switch(call, STR("verbose"))) {
        put_checks(call->admin, &status, out);
    }
    buf_put(out, is_ready             ? STR("ready\n")
                 : status.is_draining ? STR("draining\n")
                                      : STR("loading\n"));
    answer_send(call, is_ready ? 200 : 503, "text/plain; charset=utf-8",
                out->failed ? STR("out of memory\n") : buf_str(out));
}
