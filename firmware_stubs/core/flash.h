// Tables that stay in flash where data memory is a separate one.
#pragma once

#include <stdint.h>

#ifdef __AVR__
#include <avr/pgmspace.h>
#define MF_FLASH PROGMEM
inline uint8_t flash_byte(const uint8_t *at) { return pgm_read_byte(at); }
#else
#define MF_FLASH
inline uint8_t flash_byte(const uint8_t *at) { return *at; }
#endif
