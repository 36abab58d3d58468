package faults

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"time"
)

// curve is one line of the plot.
type curve struct {
	panel, name string
	colour      string
	of          func(sample) float64
	slack       float64 // growth that is none, besides a tenth
	free        bool    // not judged
}

var curves = []curve{
	{"memory, MiB", "bridge memory", "#1f77b4", func(s sample) float64 { return s.bridge.memory }, 16, false},
	{"memory, MiB", "functions memory", "#d62728", func(s sample) float64 { return s.functions.memory }, 16, false},
	{"goroutines and threads", "bridge goroutines", "#1f77b4", func(s sample) float64 { return s.bridge.goroutines }, 16, false},
	{"goroutines and threads", "bridge threads", "#7fb3d9", func(s sample) float64 { return s.bridge.threads }, 8, false},
	{"goroutines and threads", "functions goroutines", "#d62728", func(s sample) float64 { return s.functions.goroutines }, 30, false},
	{"goroutines and threads", "functions threads", "#f0a0a0", func(s sample) float64 { return s.functions.threads }, 8, false},
	{"open connections", "bridge connections", "#1f77b4", func(s sample) float64 { return s.bridge.connections }, 8, false},
	{"open connections", "functions connections", "#d62728", func(s sample) float64 { return s.functions.connections }, 30, false},
	{"records a second, thousands", "records", "#2ca02c", nil, 0, true},
}

// svg plots the series, one panel below the other.
func (s series) svg() []byte {
	const width, height, left, top, gap = 860, 150, 60, 40, 40
	var b bytes.Buffer
	var panels []string
	for _, c := range curves {
		if len(panels) == 0 || panels[len(panels)-1] != c.panel {
			panels = append(panels, c.panel)
		}
	}
	total := top + len(panels)*(height+gap) + 20
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", left+width+20, total)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="20" font-size="14">%s at full rate, %d CPUs (%s): made by ./scripts/test --soak</text>`+"\n",
		left, soakTime.Round(time.Second), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	end := s[len(s)-1].at.Seconds()
	for i, panel := range panels {
		y0 := top + i*(height+gap) + 20
		highest := 1.0
		lines := map[string][]float64{}
		for _, c := range curves {
			if c.panel != panel {
				continue
			}
			for j := range s {
				v := s.rate(j)
				if c.of != nil {
					v = c.of(s[j])
				}
				lines[c.name] = append(lines[c.name], v)
				highest = max(highest, v)
			}
		}
		// The top is a round number whose quarters are, too.
		step := math.Pow(10, math.Floor(math.Log10(highest*1.02)))
		for _, round := range []float64{1, 2, 4, 6, 8, 10} {
			if round*step >= highest*1.02 {
				highest = round * step
				break
			}
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-weight="bold">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#999"/>`+"\n", left, y0-6, panel, left, y0, width, height)
		for tick := range 5 {
			y := y0 + height*tick/4
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%g</text><path d="M%d %dh%d" stroke="#ddd"/>`+"\n",
				left-6, y+4, highest*float64(4-tick)/4, left, y, width)
		}
		legend := left + 230
		for _, c := range curves {
			values, ok := lines[c.name]
			if !ok || c.panel != panel {
				continue
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text><polyline fill="none" stroke="%s" stroke-width="1.5" points="`, legend, y0-6, c.colour, c.name, c.colour)
			legend += 150
			for j, v := range values {
				fmt.Fprintf(&b, "%.1f,%.1f ", float64(left)+s[j].at.Seconds()/end*width,
					float64(y0+height)-v/highest*height)
			}
			b.WriteString("\"/>\n")
		}
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">0</text><text x="%d" y="%d" text-anchor="end">%v</text>`+"\n</svg>\n", left,
		total-18, left+width, total-18, s[len(s)-1].at.Round(time.Second))
	return b.Bytes()
}

// rate is how many thousand records a second arrived around the sample.
func (s series) rate(i int) float64 {
	from := max(0, i-3)
	if from == i {
		return 0
	}
	return float64(s[i].arrived-s[from].arrived) / (s[i].at - s[from].at).Seconds() / 1000
}
