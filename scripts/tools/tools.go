//go:build tools

// Package tools pins the programs that ./scripts/test builds for its own use.
package tools

import _ "honnef.co/go/tools/cmd/staticcheck"
