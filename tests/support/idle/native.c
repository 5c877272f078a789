/* Jobs that ask the kernel for nothing, or for nothing but a turn. */
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile unsigned long counter;

static void compute(unsigned long steps)
{
	for (unsigned long step = 0; step != steps; step++)
		counter = counter * 6364136223846793005UL + step;
}

/* A rank whose peer is dead: it asks its socket again and again. */
static void spin(int socket)
{
	char byte;

	for (;;)
		recv(socket, &byte, 1, MSG_DONTWAIT);
}

/* Two ranks in turns through shared memory; the one that waits gives way. */
static void ranks(void)
{
	volatile unsigned long *turn = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long own = fork() ? 0 : 1;

	for (;;) {
		while (*turn % 2 != own)
			sched_yield();
		compute(3000000000UL);
		++*turn;
	}
}

/* Two ranks that exchange a block and poll for it. */
static void exchange(void)
{
	int pair[2];
	char block[4096];

	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	int own = fork() ? pair[0] : pair[1];
	memset(block, 0, sizeof block);
	for (;;) {
		compute(20000);
		send(own, block, sizeof block, 0);
		while (recv(own, block, sizeof block, MSG_DONTWAIT) < 0)
			sched_yield();
	}
}

int main(int count, char **words)
{
	const char *what = count > 1 ? words[1] : "";
	int pair[2];

	if (!strcmp(what, "spin")) {
		socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
		spin(pair[0]);
	}
	if (!strcmp(what, "busy"))
		for (;;)
			;
	if (!strcmp(what, "compute"))
		compute(~0UL);
	if (!strcmp(what, "ranks"))
		ranks();
	if (!strcmp(what, "exchange"))
		exchange();
	if (!strcmp(what, "figures")) { /* as long as a question to a driver takes */
		compute(40000000);
		puts("GPU 0: 0 %");
	}
	return 0;
}
