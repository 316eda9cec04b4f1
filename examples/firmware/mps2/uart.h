/* UART 0 and the 1 ms clock of the AN385. */
#ifndef UART_H
#define UART_H

#include <stdint.h>

/* Start receiving by interrupt; each byte goes to on_byte(), which main.c has. */
void uart_begin(uint32_t baud);
void on_byte(uint8_t byte);

void uart_write(const void *bytes, uint16_t size);

void clock_begin(void);
uint32_t now_ms(void);

#endif
