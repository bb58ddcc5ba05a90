/*
 * A verified load for an i386 Linux guest, without a C library: NAME DEVICE FIRST. In round n one of the slots from block FIRST on
 * is filled with lines that say NAME and n, another one is looked at, which must hold what the last round that wrote it put
 * there, and in every eighth round blocks are written through the page cache and made durable. It ends when there is a file
 * /tmp/stop. test/support/hop-load.ts knows what it leaves.
 */
enum { BLOCK = 65536, SLOTS = 32, FLUSHED = 4, EVERY = 8, FROM = 1000000, LINE = 16 };
enum { EXIT = 1, WRITE = 4, OPEN = 5, ACCESS = 33, FDATASYNC = 148, PREAD64 = 180, PWRITE64 = 181 };
enum { O_RDWR = 2, O_DIRECT = 040000 };

static char block[FLUSHED * BLOCK] __attribute__((aligned(4096)));
static char found[BLOCK] __attribute__((aligned(4096)));

static int call(int number, int a, const void *b, int c, unsigned offset)
{
	int answer;
	register int high __asm__("edi") = 0;
	__asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(offset), "r"(high) : "memory");
	return answer;
}

static int open(const char *path, int flags)
{
	return call(OPEN, (int)path, (void *)flags, 0, 0);
}

static char *decimal(char *end, unsigned value)
{
	do
		*--end = '0' + value % 10;
	while (value /= 10);
	return end;
}

static void say(const char *what, const char *name, unsigned round)
{
	char line[32];
	char *end = line + sizeof line;
	*--end = '\n';
	*--end = ';';
	char *from = decimal(end, round);
	*--from = ' ';
	*--from = name[1];
	*--from = name[0];
	*--from = ' ';
	for (int i = 2; i >= 0; i--)
		*--from = what[i];
	call(WRITE, 1, from, line + sizeof line - from, 0);
}

/* Fills that many bytes with round n's line: "NAME NUMBER ....\n". */
static void fill(char *to, int bytes, const char *name, unsigned round)
{
	char line[LINE + 1] = "NN 0000000 ....\n";
	line[0] = name[0];
	line[1] = name[1];
	decimal(line + 10, FROM + round);
	for (int i = 0; i < bytes; i += 4)
		*(int *)(to + i) = *(int *)(line + i % LINE);
}

__attribute__((used)) static void run(char **argument)
{
	const char *name = argument[1], *device = argument[2];
	unsigned first = 0;
	for (const char *digit = argument[3]; *digit; digit++)
		first = first * 10 + *digit - '0';
	int direct = open(device, O_RDWR | O_DIRECT), cached = open(device, O_RDWR);
	unsigned round = 0;
	for (; call(ACCESS, (int)"/tmp/stop", 0, 0, 0) != 0; round++) {
		int flushes = round % EVERY == EVERY - 1;
		fill(block, flushes ? FLUSHED * BLOCK : BLOCK, name, round);
		if (call(PWRITE64, direct, block, BLOCK, (first + round % SLOTS) * BLOCK) != BLOCK)
			say("BAD", name, round);
		if (flushes) {
			if (call(PWRITE64, cached, block, FLUSHED * BLOCK, (first + SLOTS) * BLOCK) != FLUSHED * BLOCK)
				say("BAD", name, round);
			if (call(FDATASYNC, cached, 0, 0, 0) != 0)
				say("BAD", name, round);
		}
		unsigned slot = round * 7 % SLOTS, age = (round + SLOTS - slot) % SLOTS;
		if (age > round)
			continue;
		fill(block, BLOCK, name, round - age);
		if (call(PREAD64, direct, found, BLOCK, (first + slot) * BLOCK) != BLOCK)
			say("BAD", name, round);
		for (int i = 0; i < BLOCK; i += 4)
			if (*(int *)(block + i) != *(int *)(found + i)) {
				say("BAD", name, round);
				break;
			}
	}
	say("END", name, round);
	call(EXIT, 0, 0, 0, 0);
}

/* The arguments lie on the stack, behind their number. */
__asm__(".globl _start\n_start:\n\tlea 4(%esp), %eax\n\tpush %eax\n\tcall run\n");
