// Package faults holds the product to its promise under every fault that we could
// think of: whatever fails, every record lands or is dead-lettered, and the audit
// says so. Its tests are the package; README.md has the table of what each fault
// does to the data of a user, which the tests keep true.
//
//	go test ./test/faults -v                    # the matrix, with its figures
//	go test ./test/faults -run Matrix -update   # writes the table in README.md
//	./scripts/test --chaos 30 --seed 7          # faults at random for 30 minutes
//	./scripts/test --soak 20                    # full rate for 20 minutes, plotted
package faults
