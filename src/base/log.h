// SPDX-License-Identifier: MIT
// The program's own log (not the access log): one line a message on standard error,
// "2025-01-31T12:00:00.123Z level text". Any thread; a line is one write(2). Never on the warm path.
#pragma once

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

// Messages below `level` are dropped. Before threads start.
void log_set_level(enum log_level level);
void log_message(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_debug(...)   log_message(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)    log_message(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, __VA_ARGS__)
#define log_error(...)   log_message(LOG_ERROR, __VA_ARGS__)
