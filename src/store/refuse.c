// SPDX-License-Identifier: MIT
// Why a change is refused, in words; the same for every store.
#include "base/invariant.h"
#include "store/store_int.h"

static void set(struct store_request *request, struct store_change *change, int err)
{
    change->err = err;
    request->err = err; // store_request_refuse() makes it the first one's
}

void store_refuse(struct store_request *request, struct store_change *change,
                  enum store_refusal why, uint64_t number)
{
    const char *name = noun_name(change->noun).p;
    switch (why) {
    case STORE_ABSENT:
        set(request, change, ERR_NOT_FOUND);
        (void)problems_add(&change->problems, ERR_NOT_FOUND, "", "%s \"%.300s\" does not exist",
                           name, change->key);
        break;
    case STORE_EXISTS:
        set(request, change, ERR_PRECONDITION);
        (void)problems_add(&change->problems, ERR_PRECONDITION, "", "%s \"%.300s\" exists already",
                           name, change->key);
        break;
    case STORE_NONE:
        set(request, change, ERR_PRECONDITION);
        (void)problems_add(&change->problems, ERR_PRECONDITION, "", "%s \"%.300s\" does not exist",
                           name, change->key);
        break;
    case STORE_REVISION:
        set(request, change, ERR_PRECONDITION);
        (void)problems_add(&change->problems, ERR_PRECONDITION, "",
                           "%s \"%.300s\" has revision %llu, not %llu", name, change->key,
                           (unsigned long long)number, (unsigned long long)change->if_match);
        break;
    case STORE_DANGLING: {
        INVARIANT(number < change->reference_count);
        const struct store_reference *reference = &change->references[number];
        set(request, change, ERR_INVALID);
        (void)problems_add(
            &change->problems, ERR_INVALID, reference->pointer == NULL ? "" : reference->pointer,
            "%s \"%.300s\" does not exist", noun_name(reference->noun).p, reference->key);
        break;
    }
    }
}

void store_refuse_used(struct store_request *request, struct store_change *change, enum noun noun,
                       struct str key)
{
    set(request, change, ERR_IN_USE);
    if (key.len == 0) {
        (void)problems_add(&change->problems, ERR_IN_USE, "", "and by more");
        return;
    }
    (void)problems_add(&change->problems, ERR_IN_USE, "", "%s \"%.100s\" is used by %s \"%.*s\"",
                       noun_name(change->noun).p, change->key, noun_name(noun).p,
                       (int)(key.len > 300 ? 300 : key.len), key.p);
}

void store_request_refuse(struct store_request *request)
{
    request->revision = 0;
    for (unsigned i = request->count; i-- > 0;) {
        struct store_change *change = &request->changes[i];
        if (change->err != 0) {
            request->err = change->err;
        }
        change->was_new = false;
        change->was_same = false;
        change->revision = 0;
    }
}
