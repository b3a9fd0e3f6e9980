package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A progress shows on a terminal how far it is, and when it will be done. Elsewhere it is silent.
type progress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	begun    time.Time
	total    time.Duration // estimated
	past     time.Duration // of total
}

func newProgress(f *os.File, total time.Duration, now func() time.Time) *progress {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	return &progress{w: f, terminal: terminal, now: now, begun: now(), total: total}
}

// done says that a step has ended which was estimated to take so long.
func (p *progress) done(estimate time.Duration) { p.past += estimate }

const barWidth = 24

// show shows what is being done.
func (p *progress) show(what string) {
	if !p.terminal {
		return
	}
	share := float64(p.past) / float64(p.total)
	full := int(share * barWidth)
	bar := strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
	fmt.Fprintf(p.w, "\r\x1b[K[%s] %3.0f%%  %s left  %s", bar, 100*share, p.left(), what)
}

// left estimates the time from what the estimates before were worth.
func (p *progress) left() string {
	left := p.total - p.past
	if spent := p.now().Sub(p.begun); p.past > 10*time.Second {
		left = time.Duration(float64(left) * float64(spent) / float64(p.past))
	}
	if left < time.Minute {
		return fmt.Sprintf("%d s", int(left.Seconds()+0.5))
	}
	return fmt.Sprintf("%d min", int(left.Minutes()+0.5))
}

// clear makes room for other output.
func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
