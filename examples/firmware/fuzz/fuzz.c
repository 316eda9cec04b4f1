/* For libFuzzer: any bytes on the line, and the same bytes as a message with a right checksum.
 *
 * clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all fuzz.c -o fuzz && ./fuzz corpus */
#include "exercise.h"

static harrier h;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t message[HARRIER_BUFFER_BYTES], kind;
    size_t i;
    harrier_init(&h, 0);
    for (i = 0; i < size; i++)
        if (harrier_feed(&h, bytes[i], (uint32_t)(i * 87)))
            read_all(&h, harrier_message(&h), (uint32_t)(i * 87));
    judge_in_a_tight_place(bytes, size > 65535 ? 65535 : size);
    if (size >= HARRIER_HEADER_BYTES + HARRIER_CHECKSUM_BYTES && size <= sizeof message) {
        memcpy(message, bytes, size);
        harrier_put_u16(message + size - 2, crc_of(message, size - 2));
        kind = harrier_feed_datagram(&h, message, (uint16_t)size, 1000);
        if (kind)
            read_all(&h, harrier_message(&h), 2000);
    }
    return 0;
}
