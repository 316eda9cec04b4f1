/* What runs before main() on a bare Cortex-M3, and where its interrupts go. */
#include <stdint.h>

extern uint32_t data_start[], data_end[], data_load[], bss_start[], bss_end[], stack_top[];

int main(void);
void systick(void);
void uart0_receive(void);
void reset(void);

void reset(void)
{
    uint32_t *to = data_start;
    const uint32_t *from = data_load;
    while (to < data_end)
        *to++ = *from++;
    for (to = bss_start; to < bss_end;)
        *to++ = 0;
    main();
    for (;;) {
    }
}

static void fault(void)
{
    for (;;) {
    }
}

typedef void (*handler)(void);

/* 15 exceptions of the core, then the interrupts: UART 0 has received is number 0 */
__attribute__((section(".vectors"), used)) static const struct {
    const uint32_t *stack;
    handler handlers[16];
} vectors = {
    stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, systick, uart0_receive},
};
