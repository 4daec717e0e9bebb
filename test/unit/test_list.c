// SPDX-License-Identifier: MIT
#include "base/list.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

struct item {
    int value;
    struct list node;
};

static void assert_values(struct list *head, int count, const int *values)
{
    int i = 0;
    LIST_FOR_EACH (node, head) {
        assert_true(i < count);
        assert_int_equal(CONTAINER_OF(node, struct item, node)->value, values[i]);
        assert_ptr_equal(node->next->prev, node);
        i++;
    }
    assert_int_equal(i, count);
}

static void test_order(void **state)
{
    (void)state;
    struct list head;
    struct item items[3] = {{.value = 1}, {.value = 2}, {.value = 3}};
    list_init(&head);
    assert_true(list_is_empty(&head));
    list_append(&head, &items[1].node);
    list_append(&head, &items[2].node);
    list_push(&head, &items[0].node);
    assert_values(&head, 3, (const int[]){1, 2, 3});
    assert_ptr_equal(LIST_FIRST(&head, struct item, node), &items[0]);
    list_remove(&items[1].node);
    assert_values(&head, 2, (const int[]){1, 3});
    list_remove(&items[1].node); // twice is harmless
    assert_values(&head, 2, (const int[]){1, 3});
    assert_true(list_is_empty(&items[1].node));
}

static void test_splice(void **state)
{
    (void)state;
    struct list a;
    struct list b;
    struct item items[4] = {{.value = 1}, {.value = 2}, {.value = 3}, {.value = 4}};
    list_init(&a);
    list_init(&b);
    list_splice(&a, &b);
    assert_true(list_is_empty(&a));
    list_append(&b, &items[0].node);
    list_append(&b, &items[1].node);
    list_splice(&a, &b);
    assert_true(list_is_empty(&b));
    assert_values(&a, 2, (const int[]){1, 2});
    list_append(&b, &items[2].node);
    list_append(&b, &items[3].node);
    list_splice(&a, &b);
    assert_values(&a, 4, (const int[]){1, 2, 3, 4});
    list_splice(&a, &b);
    assert_values(&a, 4, (const int[]){1, 2, 3, 4});
}

static void test_free_in_loop(void **state)
{
    (void)state;
    struct list head;
    list_init(&head);
    for (int i = 0; i < 10; i++) {
        struct item *item = malloc(sizeof *item);
        assert_non_null(item);
        item->value = i;
        list_append(&head, &item->node);
    }
    int seen = 0;
    LIST_FOR_EACH_SAFE (node, &head) {
        struct item *item = CONTAINER_OF(node, struct item, node);
        assert_int_equal(item->value, seen++);
        list_remove(node);
        free(item);
    }
    assert_int_equal(seen, 10);
    assert_true(list_is_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_splice),
        cmocka_unit_test(test_free_in_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
