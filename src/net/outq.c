// SPDX-License-Identifier: MIT
#include "net/outq.h"
#include "net/tls.h"
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct outq_batch {
    unsigned iov_count;
    bool has_views; // pieces that end with the event
    size_t scratch_len;
    struct iovec iov[OUTQ_IOV_MAX];
    char scratch[OUTQ_SCRATCH_LEN];
};

struct outq_block {
    struct outq_block *next;
    size_t start;
    size_t end;
    char data[];
};

enum {
    BLOCK_ROOM = OUTQ_BLOCK_LEN - sizeof(struct outq_block),
    KEPT_BATCHES = 32,
    GATHERED_MAX = 64, // outputs that hold a batch while they gather
    KEPT_BLOCKS = 64,
};

static void flush_event(struct loop *loop);
static void gather_no_more(struct loop *loop, struct outq *out);

int outq_pool_init(struct loop *loop)
{
    struct outq_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return ERR_MEMORY;
    }
    slab_init(&pool->batches, sizeof(struct outq_batch), KEPT_BATCHES);
    slab_init(&pool->blocks, OUTQ_BLOCK_LEN, KEPT_BLOCKS);
    loop->outq_pool = pool;
    loop->after_event = flush_event;
    loop->after_events = outq_flush_all;
    return 0;
}

void outq_pool_fini(struct loop *loop)
{
    if (loop->outq_pool != NULL) {
        slab_fini(&loop->outq_pool->batches);
        slab_fini(&loop->outq_pool->blocks);
        free(loop->outq_pool);
        loop->outq_pool = NULL;
    }
}

void outq_init(struct outq *out, struct loop_io *io,
               void (*on_flushed)(struct loop *loop, struct outq *out))
{
    *out = (struct outq){.io = io, .on_flushed = on_flushed};
    list_init(&out->dirty);
    list_init(&out->gathered);
}

static void drop_batch(struct loop *loop, struct outq *out)
{
    if (out->batch != NULL) {
        slab_put(&loop->outq_pool->batches, out->batch);
        out->batch = NULL;
    }
}

static void drop_blocks(struct loop *loop, struct outq *out)
{
    while (out->first != NULL) {
        struct outq_block *block = out->first;
        out->first = block->next;
        slab_put(&loop->outq_pool->blocks, block);
    }
    out->last = NULL;
    out->queued = 0;
}

void outq_fini(struct loop *loop, struct outq *out)
{
    drop_batch(loop, out);
    drop_blocks(loop, out);
    list_remove(&out->dirty);
    gather_no_more(loop, out);
    out->failed = true;
}

static void fail(struct loop *loop, struct outq *out)
{
    drop_batch(loop, out);
    drop_blocks(loop, out);
    out->failed = true;
}

static void fail_short(struct loop *loop, struct outq *out)
{
    fail(loop, out);
    out->is_short = true;
}

// The batch of this event with room for one more view, or NULL when the output has failed.
static struct outq_batch *open_batch(struct loop *loop, struct outq *out)
{
    if (out->batch != NULL && out->batch->iov_count == OUTQ_IOV_MAX) {
        outq_flush(loop, out);
    }
    if (list_is_empty(&out->dirty)) {
        list_append(&loop->dirty, &out->dirty);
    }
    if (out->failed) {
        return NULL;
    }
    if (out->batch == NULL) {
        out->batch = slab_get(&loop->outq_pool->batches);
        if (out->batch == NULL) {
            fail_short(loop, out);
            return NULL;
        }
        out->batch->iov_count = 0;
        out->batch->scratch_len = 0;
        out->batch->has_views = false;
    }
    return out->batch;
}

// Is a copy of so many bytes cheaper than a piece of its own? Where it gathers, while it may wait for more.
static bool is_copied(const struct outq *out, size_t len)
{
    const struct outq_batch *batch = out->batch;
    return len <= OUTQ_COPY_MAX ||
           (out->gathers && len <= OUTQ_GATHER_MAX &&
            (batch == NULL || (!batch->has_views && len <= OUTQ_SCRATCH_LEN - batch->scratch_len)));
}

void outq_put_view(struct loop *loop, struct outq *out, struct str view)
{
    if (is_copied(out, view.len)) {
        outq_put_copy(loop, out, view);
        return;
    }
    struct outq_batch *batch = open_batch(loop, out);
    if (batch != NULL) {
        batch->has_views = true;
        batch->iov[batch->iov_count++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)view.p, .iov_len = view.len};
    }
}

char *outq_reserve(struct loop *loop, struct outq *out, size_t len)
{
    if (out->batch != NULL && OUTQ_SCRATCH_LEN - out->batch->scratch_len < len) {
        outq_flush(loop, out);
    }
    struct outq_batch *batch = open_batch(loop, out);
    return batch == NULL ? NULL : batch->scratch + batch->scratch_len;
}

void outq_commit(struct outq *out, size_t len)
{
    struct outq_batch *batch = out->batch;
    if (len == 0) {
        return; // an empty piece would never count as sent
    }
    char *at = batch->scratch + batch->scratch_len;
    batch->scratch_len += len;
    if (batch->iov_count > 0) {
        struct iovec *last = &batch->iov[batch->iov_count - 1];
        if ((char *)last->iov_base + last->iov_len == at) {
            last->iov_len += len;
            return;
        }
    }
    batch->iov[batch->iov_count++] = (struct iovec){.iov_base = at, .iov_len = len};
}

void outq_put_copy(struct loop *loop, struct outq *out, struct str bytes)
{
    while (bytes.len > 0) {
        size_t len = bytes.len < OUTQ_SCRATCH_LEN ? bytes.len : OUTQ_SCRATCH_LEN;
        char *to = outq_reserve(loop, out, len);
        if (to == NULL) {
            return;
        }
        memcpy(to, bytes.p, len);
        outq_commit(out, len);
        bytes = str_from(bytes, len);
    }
}

static bool append_block(struct loop *loop, struct outq *out, const char *p, size_t len)
{
    while (len > 0) {
        struct outq_block *block = out->last;
        if (block == NULL || block->end == BLOCK_ROOM) {
            block = slab_get(&loop->outq_pool->blocks);
            if (block == NULL) {
                return false;
            }
            block->next = NULL;
            block->start = 0;
            block->end = 0;
            if (out->last == NULL) {
                out->first = block;
            } else {
                out->last->next = block;
            }
            out->last = block;
        }
        size_t part = len < BLOCK_ROOM - block->end ? len : BLOCK_ROOM - block->end;
        memcpy(block->data + block->end, p, part);
        block->end += part;
        out->queued += part;
        p += part;
        len -= part;
    }
    return true;
}

// Takes `len` sent bytes off the blocks; returns what is left of len (it was of the batch).
static size_t consume_blocks(struct loop *loop, struct outq *out, size_t len)
{
    while (len > 0 && out->first != NULL) {
        struct outq_block *block = out->first;
        size_t have = block->end - block->start;
        size_t part = len < have ? len : have;
        block->start += part;
        out->queued -= part;
        len -= part;
        if (block->start < block->end) {
            break;
        }
        out->first = block->next;
        if (out->first == NULL) {
            out->last = NULL;
        }
        slab_put(&loop->outq_pool->blocks, block);
    }
    return len;
}

static void consume_batch(struct outq_batch *batch, unsigned *from, size_t len)
{
    while (len > 0) {
        struct iovec *iov = &batch->iov[*from];
        if (len < iov->iov_len) {
            iov->iov_base = (char *)iov->iov_base + len;
            iov->iov_len -= len;
            return;
        }
        len -= iov->iov_len;
        (*from)++;
    }
}

static ssize_t send_vector(int fd, struct iovec *iov, unsigned count)
{
    ssize_t sent;
    do {
        if (count == 1) {
            sent = send(fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
        } else {
            struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
            sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        }
    } while (sent < 0 && errno == EINTR);
    return sent;
}

// Sends once. True: all that was offered went, and there may be more.
static bool send_some(struct loop *loop, struct outq *out, unsigned *from)
{
    struct iovec iov[2 * OUTQ_IOV_MAX];
    unsigned count = 0;
    size_t offered = 0;
    for (struct outq_block *b = out->first; b != NULL && count < OUTQ_IOV_MAX; b = b->next) {
        iov[count++] = (struct iovec){.iov_base = b->data + b->start, .iov_len = b->end - b->start};
        offered += b->end - b->start;
    }
    // The batch may follow only when all blocks are in; of TLS it is sealed first.
    if (out->batch != NULL && offered == out->queued && out->tls == NULL) {
        for (unsigned i = *from; i < out->batch->iov_count; i++) {
            iov[count++] = out->batch->iov[i];
            offered += out->batch->iov[i].iov_len;
        }
    }
    if (count == 0) {
        return false;
    }
    ssize_t sent = send_vector(out->io->fd, iov, count);
    if (sent < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOTCONN) {
            out->blocked = true;
        } else {
            fail(loop, out);
        }
        return false;
    }
    out->sent += (uint64_t)sent;
    if (out->tls == NULL) {
        out->written += (uint64_t)sent;
    }
    size_t of_batch = consume_blocks(loop, out, (size_t)sent);
    if (of_batch > 0) {
        consume_batch(out->batch, from, of_batch);
    }
    out->blocked = (size_t)sent < offered;
    return !out->blocked;
}

// Wire bytes behind what is queued; sent at once when nothing is. False: no memory, or it has failed.
static bool put_wire(struct loop *loop, struct outq *out, struct str bytes)
{
    ssize_t sent = 0;
    if (bytes.len == 0 || out->failed) {
        return !out->failed;
    }
    if (!out->blocked && out->queued == 0) {
        struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes.p, .iov_len = bytes.len};
        sent = send_vector(out->io->fd, &iov, 1);
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOTCONN) {
            fail(loop, out);
            return false;
        }
        sent = sent < 0 ? 0 : sent;
        out->sent += (uint64_t)sent;
        out->blocked = (size_t)sent < bytes.len;
    }
    if (!append_block(loop, out, bytes.p + sent, bytes.len - (size_t)sent)) {
        fail_short(loop, out);
        return false;
    }
    return true;
}

// Seals the batch. What the kernel does not take of it goes into blocks, sealed.
static void flush_sealed(struct loop *loop, struct outq *out)
{
    unsigned unused = 0;
    while (!out->blocked && out->queued > 0 && send_some(loop, out, &unused)) {
    }
    struct outq_batch *batch = out->batch; // a send that failed has dropped it
    if (out->is_shut && out->queued == 0 && !out->failed) {
        shutdown(out->io->fd, SHUT_WR);
        out->is_shut = false;
    }
    size_t at = 0; // bytes of the batch that are sealed
    size_t left = 0;
    for (unsigned i = 0; batch != NULL && i < batch->iov_count; i++) {
        left += batch->iov[i].iov_len;
    }
    while (left > 0 && !out->failed) {
        struct str wire;
        ssize_t n = tls_seal(out->tls, batch->iov, batch->iov_count, at, &wire);
        if (n <= 0) {
            fail(loop, out);
            return;
        }
        at += (size_t)n;
        left -= (size_t)n;
        out->written += (uint64_t)n;
        if (!put_wire(loop, out, wire)) {
            return;
        }
    }
    drop_batch(loop, out);
}

void outq_flush(struct loop *loop, struct outq *out)
{
    unsigned from = 0;
    if (out->failed || out->io->fd < 0) {
        fail(loop, out);
        return;
    }
    if (out->tls != NULL) {
        flush_sealed(loop, out);
        return;
    }
    while (!out->blocked && send_some(loop, out, &from)) {
        if (out->queued == 0 && (out->batch == NULL || from == out->batch->iov_count)) {
            break;
        }
    }
    struct outq_batch *batch = out->batch;
    if (batch == NULL) {
        return;
    }
    for (; from < batch->iov_count; from++) {
        if (!append_block(loop, out, batch->iov[from].iov_base, batch->iov[from].iov_len)) {
            fail_short(loop, out);
            return;
        }
    }
    drop_batch(loop, out);
}

void outq_wake(struct loop *loop, struct outq *out)
{
    if (list_is_empty(&out->dirty)) {
        list_append(&loop->dirty, &out->dirty);
    }
}

void outq_put_wire(struct loop *loop, struct outq *out, struct str bytes)
{
    if (!put_wire(loop, out, bytes)) {
        outq_wake(loop, out); // its owner hears of it
    }
}

void outq_shut(struct loop *loop, struct outq *out)
{
    if (out->io->fd < 0) {
        return;
    }
    if (out->tls != NULL) {
        (void)put_wire(loop, out, tls_seal_end(out->tls));
    }
    if (out->tls != NULL && out->queued > 0) {
        out->is_shut = true;
    } else {
        shutdown(out->io->fd, SHUT_WR);
    }
}

static void gather(struct loop *loop, struct outq *out)
{
    if (list_is_empty(&out->gathered)) {
        list_append(&loop->gathered, &out->gathered);
        loop->outq_pool->gathered_count++;
    }
}

static void gather_no_more(struct loop *loop, struct outq *out)
{
    if (!list_is_empty(&out->gathered)) {
        list_remove(&out->gathered);
        loop->outq_pool->gathered_count--;
    }
}

void outq_flush_gathered(struct loop *loop, struct outq *out)
{
    if (!list_is_empty(&out->gathered)) {
        outq_flush(loop, out);
    }
}

void outq_drop_gathered(struct loop *loop, struct outq *out)
{
    if (!list_is_empty(&out->gathered)) {
        drop_batch(loop, out);
    }
}

void outq_moved(struct loop *loop, struct outq *from, struct outq *to)
{
    list_init(&to->dirty);
    list_init(&to->gathered);
    if (!list_is_empty(&from->dirty)) {
        list_remove(&from->dirty);
        list_append(&loop->dirty, &to->dirty);
    }
    if (!list_is_empty(&from->gathered)) {
        gather_no_more(loop, from);
        gather(loop, to);
    }
}

// Can what is in the batch wait for more?
static bool may_wait(const struct loop *loop, const struct outq *out)
{
    return out->gathers && out->batch != NULL && !out->batch->has_views && out->queued == 0 &&
           !out->blocked && !out->failed &&
           (!list_is_empty(&out->gathered) || loop->outq_pool->gathered_count < GATHERED_MAX);
}

static void send_now(struct loop *loop, struct outq *out)
{
    gather_no_more(loop, out);
    outq_flush(loop, out);
    out->on_flushed(loop, out);
}

// The loop's after_event.
static void flush_event(struct loop *loop)
{
    while (!list_is_empty(&loop->dirty)) {
        struct outq *out = LIST_FIRST(&loop->dirty, struct outq, dirty);
        if (out->before_flush != NULL) {
            out->before_flush(loop, out);
            if (list_is_empty(&out->dirty)) {
                continue; // it was closed
            }
        }
        list_remove(&out->dirty);
        if (may_wait(loop, out)) {
            gather(loop, out);
        } else {
            send_now(loop, out);
        }
    }
}

void outq_flush_all(struct loop *loop)
{
    flush_event(loop);
    while (!list_is_empty(&loop->gathered)) {
        send_now(loop, LIST_FIRST(&loop->gathered, struct outq, gathered));
        flush_event(loop);
    }
}
