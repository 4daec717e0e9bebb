// SPDX-License-Identifier: MIT
// One reading of a folder, in which nothing may be wrong.
#include "files/files_int.h"

static void add_faults(struct files_faults *faults, const struct file *file)
{
    if (faults->count < FILES_FAULTS_SHOWN) {
        buf_put(&faults->text, buf_str(&file->faults));
    }
    faults->count += file->fault_count;
}

int files_read(const char *folder, const struct seal *seal, struct store_request **request,
               struct files_faults *faults)
{
    *request = NULL;
    struct folder_list list;
    struct file_table table = {.items = NULL};
    struct round_result result = {.request = NULL};
    int err = folder_list_read(folder, &list, faults);
    if (err == 0) {
        err = file_table_update(&table, folder, &list, seal, false, NULL, NULL);
    }
    for (size_t i = 0; i < table.count && err == 0; i++) {
        add_faults(faults, &table.items[i]);
    }
    if (err == 0) {
        err = round_build(folder, &table, NULL, false, &result, faults);
    }
    if (err == 0 && faults->count > 0) {
        err = ERR_INVALID;
    }
    if (err == 0 && result.request == NULL) {
        result.request = store_request_new(0);
        err = result.request == NULL ? ERR_MEMORY : 0;
    }
    if (err == 0) {
        *request = result.request;
    } else {
        store_request_free(&result.request);
    }
    file_table_fini(&table);
    folder_list_fini(&list);
    return err;
}
