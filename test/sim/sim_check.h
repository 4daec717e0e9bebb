// SPDX-License-Identifier: MIT
// What the tests of the simulation include: cmocka, and the checks they share.
#pragma once
#include "sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define GET          "GET /a HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
#define HEAD_REQUEST "HEAD /a HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
#define POST_EMPTY   "POST /a HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 0\r\n\r\n"
#define POST_10      "POST /a HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 10\r\n\r\n"
#define PUT_10       "PUT /a HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 10\r\n\r\n"
#define PUT_CHUNKED \
    "PUT /a HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
#define UPGRADE                                                               \
    "GET /chat HTTP/1.1\r\nHost: shop.example.com\r\nConnection: upgrade\r\n" \
    "Upgrade: websocket\r\n\r\n"
#define SWITCH \
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
#define OK_EMPTY    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define OK_5        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
#define OK_CHUNKED  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define UNAVAILABLE "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

// The one record of the last transaction.
static inline void check_record(const struct sim *sim, unsigned records, unsigned status,
                                const char *end)
{
    assert_int_equal(sim->record_count, records);
    assert_int_equal(sim->last.status, status);
    assert_string_equal(sim->last.end, end);
}

// A complete answer with this status.
static inline void check_answer(const struct sim_stream *client, unsigned status)
{
    assert_int_equal(client->status, status);
    assert_true(client->out_ended);
    assert_int_equal(client->life, SIM_SENT);
}
