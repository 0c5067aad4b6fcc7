// SPDX-License-Identifier: Apache-2.0
/* Numbers and sizes as users write them; see size.h. */
#include "cli/size.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"

/* Digits of @text in @base; *end is where they stop.
 * Return: false when there is none, or they overflow. */
static bool digits(const char *text, unsigned base, const char **end,
                   uint64_t *out)
{
    static const char alphabet[] = "0123456789abcdef";
    uint64_t v = 0;
    const char *p;

    for (p = text; *p; p++) {
        char c = *p >= 'A' && *p <= 'F' ? (char)(*p - 'A' + 'a') : *p;
        const char *d = memchr(alphabet, c, base);

        if (!d)
            break;
        if (!check_mul(v, base, &v) ||
            !check_add(v, (uint64_t)(d - alphabet), &v))
            return false;
    }
    *end = p;
    *out = v;
    return p != text;
}

/* Shift of a size letter, -1 for none that we know. */
static int letter_shift(char letter)
{
    switch (letter) {
    case 'k':
    case 'K':
        return 10;
    case 'm':
    case 'M':
    case 0:
        return 20;
    case 'g':
    case 'G':
        return 30;
    case 't':
    case 'T':
        return 40;
    default:
        return -1;
    }
}

int size_parse(const char *text, uint64_t *bytes, struct err *e)
{
    const char *end = text;
    uint64_t v = 0;
    int shift;

    if (text[0] == '-')
        return err_set(e, -EINVAL, "a memory size cannot be negative: %.60s",
                       text);
    if (!digits(text, 10, &end, &v))
        return err_set(e, -EINVAL,
                       "not a memory size: '%.60s' (write 512M or 2G)", text);
    shift = letter_shift(*end);
    if (shift < 0 || (*end && end[1]))
        return err_set(e, -EINVAL,
                       "not a memory size: '%.60s' (write 512M or 2G; the "
                       "letters are K, M, G and T)",
                       text);
    if (v == 0)
        return err_set(e, -EINVAL, "a memory size of 0 is too small");
    if (!check_mul(v, UINT64_C(1) << shift, &v) || v > INT64_MAX)
        return err_set(e, -EINVAL, "a memory size of %.60s is too large", text);
    *bytes = v;
    return 0;
}

int number_parse(const char *what, const char *text, uint64_t min, uint64_t max,
                 uint64_t *out, struct err *e)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char *end = text;
    uint64_t v = 0;

    if (!digits(hex ? text + 2 : text, hex ? 16 : 10, &end, &v) || *end ||
        v < min || v > max)
        return err_set(
            e, -EINVAL, "--%s takes a number from %llu to %llu, not '%.60s'",
            what, (unsigned long long)min, (unsigned long long)max, text);
    *out = v;
    return 0;
}

int seconds_parse(const char *what, const char *text, uint64_t *ms,
                  struct err *e)
{
    uint64_t whole = 0, part = 0, scale = 100;
    const char *p = text;

    if (digits(text, 10, &p, &whole) && whole <= 1000000000) {
        if (*p == '.') {
            for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10)
                part += (uint64_t)(*p - '0') * scale;
        }
        if (*p == 0 && whole * 1000 + part > 0) {
            *ms = whole * 1000 + part;
            return 0;
        }
    }
    return err_set(e, -EINVAL,
                   "--%s takes a number of seconds above 0, such as 60 or "
                   "0.5, not '%.60s'",
                   what, text);
}
