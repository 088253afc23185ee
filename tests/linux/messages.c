/*
 * printk, WARN and BUG.
 *
 * STATUS: -6
 * SAYS: ^messages: an error 5
 * SAYS: ^without a level
 * SAYS: WARNING: CPU: \d+ PID: \d+ at [^\n]*messages\.c:@WARN main\nnumber 7
 * SAYS: WARNING: [^\n]*messages\.c:@WARN_ON main\n1 == 1
 * SAYS: kernel BUG at [^\n]*messages\.c:@BUG!
 * TIMES 1: only once
 * TIMES 10: now and then
 * TIMES 1: warned once
 * TIMES 0: information
 */
#define pr_fmt(format) "messages: " format
#include <linux/bug.h>
#include <linux/kernel.h>
#include <linux/printk.h>

#include "check.h"

int main(void) {
  char text[8];
  pr_err("an error %d\n", 5);
  pr_info("information\n");
  pr_debug("nothing %s\n", "here");
  printk("without a level\n");
  for (int i = 0; i < 20; ++i) {
    pr_warn_once("only once\n");
    pr_err_ratelimited("now and then\n");
    WARN_ONCE(i >= 0, "warned once");
  }
  CHECK(WARN(1, "number %d", 7)); /* at WARN */
  CHECK(WARN_ON(1 == 1)); /* at WARN_ON */
  CHECK(!WARN_ON(0));
  CHECK(snprintf(text, sizeof(text), "%s", "longer than it") == 14 && text[7] == 0);
  BUG_ON(text[0] == 'l'); /* at BUG */
  return 0;
}
