// SPDX-License-Identifier: MIT
// Text as a stream of YAML documents and as a configuration: no document is larger or deeper than its
// bounds, and every problem has a place.
#include "base/invariant.h"
#include "model/config.h"
#include "model/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DOCUMENTS_MAX = 100 };

static void check_stream(struct str text)
{
    struct problems problems;
    struct yaml_stream *stream;
    struct yaml_doc *doc;
    problems_init(&problems);
    INVARIANT(yaml_stream_new(&stream, "f", text) == 0);
    int step = STEP_DONE;
    for (int i = 0; i < DOCUMENTS_MAX && step == STEP_DONE; i++) {
        step = yaml_stream_next(stream, &doc, &problems);
        INVARIANT((step == STEP_DONE) == (doc != NULL));
        if (doc == NULL) {
            break;
        }
        unsigned line;
        unsigned column;
        yaml_doc_find(doc, STR("/a/0/b"), &line, &column);
        INVARIANT(line > 0 && column > 0);
        char *json = json_dumps(yaml_doc_root(doc), JSON_COMPACT | JSON_ENCODE_ANY);
        INVARIANT(json != NULL);
        free(json);
        yaml_doc_free(&doc);
    }
    INVARIANT(step >= 0 ||
              (problems.count == 1 && strncmp(problems.items[0].pointer, "f:", 2) == 0));
    yaml_stream_free(&stream);
    problems_fini(&problems);
}

static void check_config(struct str text)
{
    struct config config;
    struct problems problems;
    problems_init(&problems);
    INVARIANT(config_init(&config) == 0);
    int err = config_read_text(&config, "f", text, &problems);
    INVARIANT((err == 0) == (problems.count == 0));
    if (err == 0) {
        err = config_check(&config, &problems);
        INVARIANT((err == 0) == (problems.count == 0));
    }
    config_fini(&config);
    problems_fini(&problems);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_make((const char *)data, size);
    check_stream(text);
    check_config(text);
    return 0;
}
