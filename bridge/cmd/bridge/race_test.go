//go:build race

package main

// The race detector keeps several bytes for each byte of the heap.
const memoryFactor = 4
