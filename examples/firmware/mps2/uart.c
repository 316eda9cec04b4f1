#include "uart.h"

#define CPU_HZ 25000000u

/* CMSDK APB UART 0 */
#define UART ((volatile uint32_t *)0x40004000u)
enum { DATA, STATE, CTRL, INTERRUPT, BAUDDIV };
#define TX_FULL 1u
#define RX_FULL 2u
#define TX_ON 1u
#define RX_ON 2u
#define RX_INTERRUPT_ON 8u
#define RX_INTERRUPT 2u

/* of the Cortex-M3 */
#define NVIC_ENABLE (*(volatile uint32_t *)0xE000E100u)
#define SYSTICK ((volatile uint32_t *)0xE000E010u)

static volatile uint32_t ms;

void systick(void);
void uart0_receive(void);

void systick(void) { ms++; }

uint32_t now_ms(void) { return ms; }

void clock_begin(void)
{
    SYSTICK[1] = CPU_HZ / 1000 - 1;
    SYSTICK[2] = 0;
    SYSTICK[0] = 7; /* from the core's clock, with interrupt */
}

void uart_begin(uint32_t baud)
{
    UART[BAUDDIV] = CPU_HZ / baud;
    UART[CTRL] = TX_ON | RX_ON | RX_INTERRUPT_ON;
    NVIC_ENABLE = 1;
}

void uart0_receive(void)
{
    UART[INTERRUPT] = RX_INTERRUPT;
    while (UART[STATE] & RX_FULL)
        on_byte((uint8_t)UART[DATA]);
}

void uart_write(const void *bytes, uint16_t size)
{
    const uint8_t *byte = bytes;
    while (size--) {
        while (UART[STATE] & TX_FULL) {
        }
        UART[DATA] = *byte++;
    }
}
