// SPDX-License-Identifier: Apache-2.0
/* The table of engines; see engines.def. */
#include "engine/engine.h"

#include <string.h>

#define ENGINE(name) extern const struct engine_ops name##_engine;
#include "engine/engines.def"
#undef ENGINE

const struct engine_ops *const engine_table[] = {
#define ENGINE(name) &name##_engine,
#include "engine/engines.def"
#undef ENGINE
    NULL,
};

const struct engine_ops *engine_find(const char *name)
{
    for (const struct engine_ops *const *e = engine_table; *e; e++)
        if (strcmp((*e)->name, name) == 0)
            return *e;
    return NULL;
}
