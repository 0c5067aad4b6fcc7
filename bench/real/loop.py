# SPDX-License-Identifier: Apache-2.0
# The interpreter's row: calls, dictionaries, strings, floats, sorting.


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def norm(self):
        return (self.x * self.x + self.y * self.y) ** 0.5


def sieve(n):
    flags = bytearray([1]) * (n + 1)
    for i in range(2, int(n**0.5) + 1):
        if flags[i]:
            for j in range(i * i, n + 1, i):
                flags[j] = 0
    return sum(flags) - 2


def words(n):
    counts = {}
    for i in range(n):
        w = "w%d" % (i * 7919 % 1009)
        counts[w] = counts.get(w, 0) + len(w)
    return sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:3]


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


total = sum(Point(i, i + 1).norm() for i in range(300000))
print(sieve(1000000), words(400000), fib(26), "%.6f" % total)
