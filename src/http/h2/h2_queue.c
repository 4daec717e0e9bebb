// SPDX-License-Identifier: MIT
#include "http/h2/h2_queue.h"
#include "base/invariant.h"

struct h2_block {
    struct h2_block *next;
    struct loop_deferred deferred;
    uint32_t start;
    uint32_t end;
    char data[];
};

enum { BLOCK_ROOM = OUTQ_BLOCK_LEN - sizeof(struct h2_block) };

static void free_block(struct loop *loop, struct loop_deferred *deferred)
{
    slab_put(&loop->outq_pool->blocks, CONTAINER_OF(deferred, struct h2_block, deferred));
}

static void drop_first(struct loop *loop, struct h2_queue *queue)
{
    struct h2_block *block = queue->first;
    queue->first = block->next;
    if (queue->first == NULL) {
        queue->last = NULL;
    }
    loop_defer(loop, &block->deferred, free_block);
}

void h2_queue_fini(struct loop *loop, struct h2_queue *queue)
{
    while (queue->first != NULL) {
        drop_first(loop, queue);
    }
    queue->len = 0;
    queue->view = STR_NULL;
}

static struct h2_block *add_block(struct loop *loop, struct h2_queue *queue)
{
    struct h2_block *block = slab_get(&loop->outq_pool->blocks);
    if (block == NULL) {
        return NULL;
    }
    block->next = NULL;
    block->start = 0;
    block->end = 0;
    if (queue->last == NULL) {
        queue->first = block;
    } else {
        queue->last->next = block;
    }
    queue->last = block;
    return block;
}

bool h2_queue_append(struct loop *loop, struct h2_queue *queue, struct str bytes)
{
    INVARIANT(queue->view.len == 0);
    while (bytes.len > 0) {
        struct h2_block *block = queue->last;
        if (block == NULL || block->end == BLOCK_ROOM) {
            block = add_block(loop, queue);
            if (block == NULL) {
                return false;
            }
        }
        size_t room = BLOCK_ROOM - block->end;
        size_t part = bytes.len < room ? bytes.len : room;
        memcpy(block->data + block->end, bytes.p, part);
        block->end += (uint32_t)part;
        queue->len += part;
        bytes = str_from(bytes, part);
    }
    return true;
}

void h2_queue_borrow(struct h2_queue *queue, struct str view)
{
    INVARIANT(queue->view.len == 0);
    queue->view = view;
}

bool h2_queue_own(struct loop *loop, struct h2_queue *queue)
{
    struct str view = queue->view;
    queue->view = STR_NULL;
    return view.len == 0 || h2_queue_append(loop, queue, view);
}

struct str h2_queue_front(const struct h2_queue *queue)
{
    const struct h2_block *block = queue->first;
    return block == NULL ? queue->view
                         : str_make(block->data + block->start, block->end - block->start);
}

void h2_queue_drop(struct loop *loop, struct h2_queue *queue, size_t len)
{
    struct h2_block *block = queue->first;
    if (block == NULL) {
        INVARIANT(len <= queue->view.len);
        queue->view = str_from(queue->view, len);
        return;
    }
    INVARIANT(len <= block->end - block->start);
    block->start += (uint32_t)len;
    queue->len -= len;
    if (block->start == block->end) {
        drop_first(loop, queue);
    }
}

void h2_queue_send(struct loop *loop, struct h2_queue *queue, struct outq *out, size_t len)
{
    while (len > 0) {
        struct str front = h2_queue_front(queue);
        INVARIANT(front.len > 0);
        struct str part = str_sub(front, 0, len);
        outq_put_view(loop, out, part);
        h2_queue_drop(loop, queue, part.len);
        len -= part.len;
    }
}
