// SPDX-License-Identifier: Apache-2.0
/* ACPI tables: sums, links, fields; then ACPICA's disassembler and compiler
 * read them (skipped aloud without iasl). */
#include "machine/pc/acpi.h"

#include <stdlib.h>

#include "base/test.h"
#include "dev/acpi-pm/acpi_pm.h"
#include "machine/pc/aml.h"
#include "machine/pc/memmap.h"

#define BASE 0xf0000U

static const struct acpi_conf full = {.ncpus = 4,
                                      .rsdp = {BASE},
                                      .pm_port = PC_PM_PORT,
                                      .sci_irq = PC_SCI_IRQ,
                                      .pvpanic_port = 0x505};

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;
    while (n-- > 0)
        s = (uint8_t)(s + *p++);
    return s;
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The table @sig, found as an OS does: RSDP, XSDT, (FADT for the DSDT). */
static const uint8_t *find(const uint8_t *buf, const char *sig)
{
    const uint8_t *xsdt = buf + get64(buf + 24) - BASE;
    for (uint32_t i = 36; i < get32(xsdt + 4); i += 8) {
        const uint8_t *t = buf + get64(xsdt + i) - BASE;
        if (memcmp(t, sig, 4) == 0)
            return t;
        if (memcmp(t, "FACP", 4) == 0 && memcmp(sig, "DSDT", 4) == 0)
            return buf + get64(t + 140) - BASE;
        if (memcmp(t, "FACP", 4) == 0 && memcmp(sig, "FACS", 4) == 0)
            return buf + get32(t + 36) - BASE;
    }
    return NULL;
}

TEST(sums_and_links)
{
    static uint8_t buf[ACPI_TABLES_MAX_BYTES];
    struct err e;
    int len = acpi_build(&full, buf, sizeof buf, &e);
    CHECK(len > 0);
    CHECK(memcmp(buf, "RSD PTR ", 8) == 0);
    CHECK_EQ(sum(buf, 20), 0);
    CHECK_EQ(sum(buf, 36), 0);
    static const char *const sigs[] = {"FACP", "APIC", "MCFG", "DSDT"};
    for (size_t i = 0; i < ARRAY_LEN(sigs); i++) {
        const uint8_t *t = find(buf, sigs[i]);
        CHECK(t != NULL);
        if (t) {
            CHECK(t + get32(t + 4) <= buf + len);
            CHECK_EQ(sum(t, get32(t + 4)), 0);
        }
    }
    const uint8_t *facs = find(buf, "FACS");
    CHECK(facs && memcmp(facs, "FACS", 4) == 0 && (facs - buf) % 64 == 0);
    CHECK_EQ(sum(buf + get64(buf + 24) - BASE,
                 get32(buf + get64(buf + 24) - BASE + 4)),
             0);
}

TEST(fadt_fields)
{
    static uint8_t buf[ACPI_TABLES_MAX_BYTES];
    CHECK(acpi_build(&full, buf, sizeof buf, NULL) > 0);
    const uint8_t *t = find(buf, "FACP");
    CHECK_EQ(get32(t + 4), 276);
    CHECK_EQ(get32(t + 40), get64(t + 140));               /* DSDT */
    CHECK_EQ(get32(t + 48), 0);                            /* SMI_CMD */
    CHECK_EQ(get32(t + 56), PC_PM_PORT);                   /* PM1a_EVT */
    CHECK_EQ(get32(t + 64), PC_PM_PORT + ACPI_PM_CNT_OFF); /* PM1a_CNT */
    CHECK_EQ(get32(t + 76), PC_PM_PORT + ACPI_PM_TMR_OFF); /* PM_TMR */
    CHECK_EQ(get64(t + 148 + 4), PC_PM_PORT);              /* X_PM1a_EVT */
    CHECK_EQ(get64(t + 208 + 4), PC_PM_PORT + ACPI_PM_TMR_OFF);
    CHECK_EQ(get64(t + 116 + 4), ACPI_PM_RESET_PORT);
    CHECK_EQ(t[128], ACPI_PM_RESET_VAL);
    CHECK_EQ(get32(t + 112) & (1U << 4), 0); /* power button: fixed */
    CHECK_EQ(get32(t + 112) & (1U << 10), 1U << 10);
}

TEST(madt_entries)
{
    static uint8_t buf[ACPI_TABLES_MAX_BYTES];
    CHECK(acpi_build(&full, buf, sizeof buf, NULL) > 0);
    const uint8_t *t = find(buf, "APIC");
    unsigned n[5] = {0};
    bool pit = false, sci = false;
    for (uint32_t i = 44; i < get32(t + 4); i += t[i + 1]) {
        CHECK(t[i] < ARRAY_LEN(n) && t[i + 1] >= 6);
        n[t[i]]++;
        pit = pit || (t[i] == 2 && t[i + 3] == 0 && get32(t + i + 4) == 2);
        sci = sci || (t[i] == 2 && t[i + 3] == 9 && t[i + 8] == 0x0d);
    }
    CHECK_EQ(n[0], 4);
    CHECK_EQ(n[1], 1);
    CHECK_EQ(n[2], 2);
    CHECK_EQ(n[4], 1);
    CHECK(pit);
    CHECK(sci);
}

TEST(limits)
{
    static uint8_t buf[ACPI_TABLES_MAX_BYTES];
    struct acpi_conf c = full;
    struct err e;
    c.ncpus = 255;
    CHECK(acpi_build(&c, buf, sizeof buf, &e) > 0);
    c.ncpus = 0;
    CHECK(acpi_build(&c, buf, sizeof buf, &e) < 0);
    c.ncpus = 256;
    CHECK(acpi_build(&c, buf, sizeof buf, &e) < 0);
    /* Every size that is too small is refused, without a write behind it. */
    static uint8_t small[ACPI_TABLES_MAX_BYTES];
    int need = acpi_build(&full, buf, sizeof buf, &e);
    for (int room = 36; room < need; room++) {
        memset(small + room, 0xa5, 64);
        CHECK(acpi_build(&full, small, (size_t)room, &e) < 0);
        CHECK(small[room] == 0xa5);
    }
    CHECK_EQ(acpi_build(&full, small, (size_t)need, &e), need);
}

TEST(aml_lengths)
{
    /* The encoded length covers itself: 20.2.4. */
    static const struct {
        size_t body; /* the package adds a count to it */
        size_t n;
    } cases[] = {{61, 1}, {62, 2}, {4091, 2}, {4093, 3}, {5000, 3}};
    static uint8_t buf[8192];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct aml a = {.buf = buf, .room = sizeof buf};
        aml_package(&a, 0);
        for (size_t k = 0; k < cases[i].body; k++)
            aml_int(&a, 0);
        aml_end(&a);
        size_t len = cases[i].n == 1   ? buf[1] & 0x3fU
                     : cases[i].n == 2 ? (buf[1] & 15U) | buf[2] << 4
                                       : (buf[1] & 15U) | buf[2] << 4 |
                                             (unsigned)buf[3] << 12;
        CHECK_EQ(buf[1] >> 6, cases[i].n - 1);
        CHECK_EQ(len, a.len - 1);
    }
}

/* Write a table to a file; run iasl on it; whether its output has @want. */
static bool iasl_says(const uint8_t *table, const char *name, const char *want)
{
    char path[64], cmd[256];
    snprintf(path, sizeof path, "%s.dat", name);
    FILE *f = fopen(path, "wb");
    if (!f)
        return false;
    fwrite(table, 1, get32(table + 4), f);
    fclose(f);
    snprintf(cmd, sizeof cmd,
             "iasl -d %s.dat >%s.log 2>&1 && grep -q -- '%s' %s.dsl && "
             "! grep -qi 'error\\|warning' %s.log",
             name, name, want, name, name);
    return system(cmd) == 0;
}

TEST(iasl_reads_them)
{
    static uint8_t buf[ACPI_TABLES_MAX_BYTES];
    char dir[] = "/tmp/doppel-acpi-XXXXXX";
    if (system("command -v iasl >/dev/null 2>&1") != 0)
        SKIP("no iasl (Debian: acpica-tools)");
    CHECK(acpi_build(&full, buf, sizeof buf, NULL) > 0);
    char *home = getcwd(NULL, 0);
    CHECK(mkdtemp(dir) != NULL && chdir(dir) == 0);
    CHECK(iasl_says(find(buf, "FACP"), "facp", "SCI Interrupt : 0009"));
    CHECK(iasl_says(find(buf, "APIC"), "apic", "Interrupt Source Override"));
    CHECK(iasl_says(find(buf, "MCFG"), "mcfg", "Base Address : 00000000B0"));
    CHECK(iasl_says(find(buf, "DSDT"), "dsdt", "PNP0A08"));
    /* The compiler's opinion of the DSDT. */
    CHECK(system("iasl -p again dsdt.dsl >again.log 2>&1 && "
                 "grep -q ' 0 Errors, 0 Warnings' again.log") == 0);
    CHECK(chdir(home) == 0);
    free(home);
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    CHECK(system(cmd) == 0);
}

TEST_MAIN(CASE(sums_and_links), CASE(fadt_fields), CASE(madt_entries),
          CASE(limits), CASE(aml_lengths), CASE(iasl_reads_them))
