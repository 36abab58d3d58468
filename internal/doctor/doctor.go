// Package doctor looks whether what a pipeline needs is there, and says what to do where it is not:
//
//	findings := doctor.Tables(ctx, client, "clickstream", contracts)
//	findings = append(findings, doctor.Messages(ctx, pubsubClient, doctor.Topics{…})...)
//	failed := doctor.Print(os.Stdout, findings)
//
// It changes nothing.
package doctor

import (
	"fmt"
	"io"
	"strings"
)

// State is how a Finding is to be taken.
type State string

// The states.
const (
	OK      State = "ok"
	Warning State = "warning" // it works, but for what Said tells
	Failed  State = "failed"  // it does not work
	Unknown State = "unknown" // it could not be found out
)

// Finding is one thing that was looked at.
type Finding struct {
	State  State  `json:"state"`
	What   string `json:"what"`             // that was looked at
	Said   string `json:"said"`             // what there is
	Remedy string `json:"remedy,omitempty"` // what to do; empty if it is OK
}

func ok(what, format string, args ...any) Finding {
	return Finding{State: OK, What: what, Said: fmt.Sprintf(format, args...)}
}

// failed is a Finding of what does not work; remedy says what to do.
func failed(what, said, remedy string) Finding {
	return Finding{State: Failed, What: what, Said: said, Remedy: remedy}
}

// Print writes the findings, a line each and the remedies below, and reports whether one has failed.
func Print(w io.Writer, findings []Finding) (bad bool) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.What))
	}
	for _, f := range findings {
		fmt.Fprintf(w, "%-8s %-*s  %s\n", f.State, width, f.What, f.Said)
		if f.Remedy != "" {
			fmt.Fprintf(w, "%s  → %s\n", strings.Repeat(" ", 9+width), f.Remedy)
		}
		bad = bad || f.State == Failed
	}
	return bad
}
