// SPDX-License-Identifier: MIT
// Names by their text: visits in slices, while names come and go.
#include "base/hash.h"
#include "base/list.h"
#include "publish/names.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ALL = 3000 };

struct thing {
    struct name_node node;
    char name[16];
    unsigned visits;
};

static void on_visit(void *context, struct name_node *node)
{
    (void)context;
    CONTAINER_OF(node, struct thing, node)->visits++;
}

static void add(struct name_map *map, struct thing *things, unsigned index)
{
    struct thing *thing = &things[index];
    int len = snprintf(thing->name, sizeof thing->name, "n%u", index);
    thing->node.name = str_make(thing->name, (size_t)len);
    assert_int_equal(name_map_add(map, &thing->node), 0);
}

// Begins with `first` names and adds the others between slices: the first are visited once each.
static void visit_while_it_grows(unsigned first, unsigned limit, unsigned a_slice)
{
    struct name_map map = {0};
    struct thing *things = calloc(ALL, sizeof *things);
    assert_non_null(things);
    unsigned count = 0;
    while (count < first) {
        add(&map, things, count++);
    }
    uint64_t at = 0;
    unsigned slices = 0;
    do {
        at = name_map_visit(&map, at, limit, on_visit, NULL);
        for (unsigned i = 0; i < a_slice && count < ALL; i++) {
            add(&map, things, count++);
        }
        assert_true(++slices < 100000);
    } while (at != 0);
    for (unsigned i = 0; i < count; i++) {
        assert_true(i < first ? things[i].visits == 1 : things[i].visits <= 1);
    }
    while (name_map_pop(&map) != NULL) {
    }
    name_map_fini(&map);
    free(things);
}

static void visits_all_once(void **state)
{
    (void)state;
    static const unsigned limits[] = {1, 7, 64, 100000};
    static const unsigned adds[] = {0, 1, 9, 500};
    hash_seed();
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (size_t j = 0; j < sizeof adds / sizeof adds[0]; j++) {
            visit_while_it_grows(0, limits[i], adds[j]);
            visit_while_it_grows(1, limits[i], adds[j]);
            visit_while_it_grows(64, limits[i], adds[j]);
            visit_while_it_grows(1000, limits[i], adds[j]);
        }
    }
}

static void goes_on_when_names_go(void **state)
{
    (void)state;
    struct name_map map = {0};
    struct thing *things = calloc(ALL, sizeof *things);
    assert_non_null(things);
    hash_seed();
    for (unsigned i = 0; i < ALL; i++) {
        add(&map, things, i);
    }
    uint64_t at = 0;
    unsigned gone = 0;
    do {
        at = name_map_visit(&map, at, 10, on_visit, NULL);
        if (gone < ALL) {
            name_map_remove(&map, &things[gone].node);
            gone += 2; // the odd ones stay
        }
    } while (at != 0);
    for (unsigned i = 1; i < ALL; i += 2) {
        assert_int_equal(things[i].visits, 1);
    }
    while (name_map_pop(&map) != NULL) {
    }
    name_map_fini(&map);
    free(things);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(visits_all_once),
        cmocka_unit_test(goes_on_when_names_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
