// SPDX-License-Identifier: MIT
#include "base/log.h"
#include "base/clock.h"
#include <stdarg.h>
#include <unistd.h>

static enum log_level least = LOG_INFO;

void log_set_level(enum log_level level)
{
    least = level;
}

void log_message(enum log_level level, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    if (level < least) {
        return;
    }
    char line[2048];
    clock_iso(line, clock_real_ns());
    size_t len = CLOCK_ISO_LEN;
    len += (size_t)snprintf(line + len, sizeof line - len, " %s ", names[level]);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + len, sizeof line - len - 1, format, args);
    va_end(args);
    if (more > 0) {
        len += (size_t)more < sizeof line - len - 1 ? (size_t)more : sizeof line - len - 2;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)line[i] < 0x20) {
            line[i] = ' '; // what a peer sent must not forge a line
        }
    }
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0) {
        return; // nowhere left to say it
    }
}
