// SPDX-License-Identifier: MIT
// Certificates: from records, and from files that were changed.
#include "base/invariant.h"
#include "base/log.h"
#include "publish/publish_int.h"
#include "publish/stored.h"
#include <stdlib.h>

int prepare_certificate(struct publisher *publisher, struct change *change,
                        struct problems *problems)
{
    if (publisher->certs == NULL) {
        return 0;
    }
    struct declaration *decl = NULL;
    struct cert_slot *slot = NULL;
    bool is_delete = change->record->value.len == 0;
    struct stored_certificate stored;
    bool is_usual = !is_delete && stored_certificate_read(change->record->value, &stored);
    int err = is_delete || is_usual ? 0 : change_decode(change->record, &decl, problems);
    if (err != 0) {
        return err;
    }
    if (is_delete) {
        slot = cert_table_slot(publisher->certs, change->record->key);
    } else {
        err = cert_table_make(publisher->certs, change->record->key, &slot);
    }
    if (slot == NULL) {
        declaration_free(&decl);
        return err;
    }
    change->cert = slot;
    cert_slot_ref(slot); // until change_finish()
    change->retired = retirement_new();
    err = change->retired == NULL ? ERR_MEMORY : 0;
    if (err == 0 && !is_delete) {
        err = cert_version_new(publisher->certs, slot, is_usual ? &stored.decl : &decl->certificate,
                               &change->cert_version);
    }
    declaration_free(&decl);
    return err;
}

static void put_live(struct publisher *publisher, struct cert_slot *slot,
                     struct cert_version *version, struct retirement **retired)
{
    struct cert_version *before = cert_table_publish(publisher->certs, slot, version);
    if (before != NULL) {
        INVARIANT(*retired != NULL);
        (*retired)->kind = RETIRED_CERTIFICATE;
        (*retired)->object.certificate = before;
        retire(publisher, retired);
    }
    expiry_changed(publisher);
}

void publish_certificate(struct publisher *publisher, struct change *change)
{
    put_live(publisher, change->cert, change->cert_version, &change->retired);
    change->cert_version = NULL;
}

// ---- files ----

// Between the certificate thread and the publisher; outlives both while a message is under way.
struct file_bridge {
    atomic_uint refs;
    struct publisher *publisher; // control thread; NULL: gone
    struct loop *control;
};

struct file_message {
    struct loop_message message;
    struct file_bridge *bridge;
    uint64_t number;
    struct declaration *declaration; // NULL: broken
    char detail[200];
    size_t name_len;
    char name[];
};

static void unref_bridge(struct file_bridge *bridge)
{
    // Release and acquire: the last one sees all that was done through it.
    if (atomic_fetch_sub_explicit(&bridge->refs, 1, memory_order_acq_rel) == 1) {
        free(bridge);
    }
}

// The version that the files belong to is still the live one?
static struct cert_slot *slot_of(const struct publisher *publisher,
                                 const struct file_message *message)
{
    struct cert_slot *slot =
        cert_table_slot(publisher->certs, str_make(message->name, message->name_len));
    const struct cert_version *version = slot == NULL ? NULL : cert_slot_version(slot);
    return version != NULL && version->number == message->number ? slot : NULL;
}

static int put_files(struct publisher *publisher, struct cert_slot *slot,
                     const struct declaration *declaration)
{
    struct retirement *retired = retirement_new();
    struct cert_version *version = NULL;
    int err = retired == NULL
                  ? ERR_MEMORY
                  : cert_version_new(publisher->certs, slot, &declaration->certificate, &version);
    if (err == 0) {
        put_live(publisher, slot, version, &retired);
        cert_table_sweep(publisher->certs, slot);
        arm_reaper(publisher, false);
    }
    retirement_free(&retired);
    return err;
}

// Control loop.
static void on_files_message(struct loop *loop, struct loop_message *base)
{
    (void)loop;
    struct file_message *message = CONTAINER_OF(base, struct file_message, message);
    struct publisher *publisher = message->bridge->publisher;
    struct cert_slot *slot = publisher == NULL ? NULL : slot_of(publisher, message);
    if (slot != NULL) {
        struct publish_certificate_event event = {
            .name = cert_slot_name(slot), .state = "file_broken", .detail = message->detail};
        if (message->declaration != NULL) {
            int err = put_files(publisher, slot, message->declaration);
            event.state = err == 0 ? "file_changed" : "file_broken";
            event.detail = err == 0 ? "" : err_text(err);
        }
        event.not_after = cert_slot_version(slot)->facts.not_after;
        tell_certificate(publisher, &event);
    }
    declaration_free(&message->declaration);
    unref_bridge(message->bridge);
    free(message);
}

// Certificate thread.
static void on_files(void *context, struct str name, uint64_t number,
                     struct declaration *declaration, const char *detail)
{
    struct file_bridge *bridge = context;
    struct file_message *message = calloc(1, sizeof *message + name.len);
    if (message == NULL) {
        log_error("certificate %.*s: its files were changed, but memory is out", STR_ARG(name));
        declaration_free(&declaration);
        return;
    }
    message->message.run = on_files_message;
    message->bridge = bridge;
    message->number = number;
    message->declaration = declaration;
    str_copy(message->detail, sizeof message->detail, str_from_c(detail));
    message->name_len = name.len;
    memcpy(message->name, name.p, name.len);
    // Relaxed: the publisher's own reference is there while this may be called.
    atomic_fetch_add_explicit(&bridge->refs, 1, memory_order_relaxed);
    loop_post(bridge->control, &message->message);
}

int watch_files(struct publisher *publisher)
{
    if (publisher->certs == NULL) {
        return 0;
    }
    struct file_bridge *bridge = calloc(1, sizeof *bridge);
    if (bridge == NULL) {
        return ERR_MEMORY;
    }
    atomic_init(&bridge->refs, 1);
    bridge->publisher = publisher;
    bridge->control = publisher->control;
    publisher->files = bridge;
    cert_table_on_files(publisher->certs, on_files, bridge);
    return 0;
}

void unwatch_files(struct publisher *publisher)
{
    struct file_bridge *bridge = publisher->files;
    publisher->files = NULL;
    if (bridge != NULL) {
        cert_table_on_files(publisher->certs, NULL, NULL);
        bridge->publisher = NULL;
        unref_bridge(bridge);
    }
}
