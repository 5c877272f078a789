/* What a made-up GPU answers: lines "name value" or "name.GPU value" of the file that FAKE_GPU names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *setting(const char *name, int gpu, const char *otherwise)
{
	static char found[128];
	const char *path = getenv("FAKE_GPU");
	char wanted[64], key[64], value[128];
	FILE *file = fopen(path ? path : "/etc/fake-gpu", "r");

	if (!file)
		return otherwise;
	snprintf(wanted, sizeof wanted, "%s.%d", name, gpu);
	found[0] = '\0';
	while (fscanf(file, "%63s %127[^\n]", key, value) == 2) {
		if (!strcmp(key, wanted)) {
			strcpy(found, value);
			break;
		}
		if (!strcmp(key, name))
			strcpy(found, value);
	}
	fclose(file);
	return found[0] ? found : otherwise;
}

static unsigned long long number(const char *name, int gpu, unsigned long long otherwise)
{
	const char *text = setting(name, gpu, NULL);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

/* Does not return where the setting "hang_CALL" says so. */
static inline void may_hang(const char *call, int gpu)
{
	char name[64];

	snprintf(name, sizeof name, "hang_%s", call);
	while (number(name, gpu, 0))
		pause();
}
