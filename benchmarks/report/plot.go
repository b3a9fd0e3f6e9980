package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// A plotFile is one plot: a line a library, over x.
type plotFile struct {
	file   string
	title  string
	x, y   string   // labels
	names  []string // of x, where they are not numbers: 0, 1, ...
	dots   bool     // no lines between them
	points func(d *data, library string) plotter.XYs
}

var plots = []plotFile{
	{
		file: "throughput.svg", title: "Throughput against streams, 64 KiB writes",
		x: "streams", y: "MB/s",
		points: over("Bulk", bulkCounts, rate, 1),
	},
	{
		file: "scaling.svg", title: "128 B ping-pong, connections at once",
		x: "connections", y: "messages/s",
		points: over("Crowd", append([]int{16, 128}, crowdCounts...), rate, 1),
	},
	{
		file: "latency.svg", title: "Latency of a lone 64 B ping-pong, all cores",
		x: "percentile", y: "µs", names: percentiles,
		points: across([]string{"RTT"}, []figure{p50, p90, p99, p999}, 1e3),
	},
	{
		file: "latency-crowd.svg", title: "Latency of 128 B ping-pong, 128 connections at once",
		x: "percentile", y: "µs", names: percentiles,
		points: across([]string{"Crowd128"}, []figure{p50, p90, p99, p999}, 1e3),
	},
	{
		file: "cpu.svg", title: "CPU time of a message, both processes",
		y: "µs", names: []string{"1 ping-pong", "16", "128", "1,000", "1 stream of writes", "128"}, dots: true,
		points: across([]string{"RTT", "Crowd16", "Crowd128", "Crowd1000", "Small1", "Small128"}, []figure{cpu}, 1e3),
	},
	{
		file: "memory.svg", title: "Memory of an idle connection, heap and stack, both ends",
		x: "connections", y: "bytes a connection",
		points: over(idle, idleCounts[2:], perConn, 1),
	},
}

var percentiles = []string{"50", "90", "99", "99.9"}

// over gives a figure of a family's scenarios over their numbers.
func over(family string, counts []int, f figure, unit float64) func(*data, string) plotter.XYs {
	return func(d *data, library string) (points plotter.XYs) {
		for _, n := range sorted(counts) {
			if c := d.cell(fmt.Sprint(family, n), library, f); c.runs > 0 && c.median > 0 {
				points = append(points, plotter.XY{X: float64(n), Y: c.median / unit})
			}
		}
		return points
	}
}

// sorted gives the numbers in order, each once.
func sorted(n []int) []int { return slices.Compact(slices.Sorted(slices.Values(n))) }

// across gives figures of scenarios side by side.
func across(scenarios []string, figures []figure, unit float64) func(*data, string) plotter.XYs {
	return func(d *data, library string) (points plotter.XYs) {
		for i, s := range scenarios {
			for j, f := range figures {
				if c := d.cell(s, library, f); c.runs > 0 && c.median > 0 {
					points = append(points, plotter.XY{X: float64(i*len(figures) + j), Y: c.median / unit})
				}
			}
		}
		return points
	}
}

const (
	plotWidth   = 660 // points
	plotHeight  = 340
	legendWidth = 95
)

// ink is the colour of text and axes. In a dark page the style turns it over.
var ink = color.RGBA{0x24, 0x29, 0x2f, 0xff}

const (
	inkLight = "#24292F" // as the canvas writes ink
	inkDark  = "#e6edf3"
	gridTone = 0x80
)

// looks are how each library is drawn. Every colour is readable on white and on a dark page.
var looks = map[string]struct {
	colour color.RGBA
	shape  draw.GlyphDrawer
}{
	adapter.TCP.Name:     {color.RGBA{0x80, 0x88, 0x90, 0xff}, draw.RingGlyph{}},
	adapter.VTMux.Name:   {color.RGBA{0xe0, 0x31, 0x31, 0xff}, draw.CircleGlyph{}},
	adapter.VTMuxVT.Name: {color.RGBA{0xe0, 0x60, 0x20, 0xff}, draw.TriangleGlyph{}},
	adapter.VTMuxer.Name: {color.RGBA{0xa0, 0x69, 0x2b, 0xff}, draw.PyramidGlyph{}},
	adapter.Yamux.Name:   {color.RGBA{0x1c, 0x7e, 0xd6, 0xff}, draw.SquareGlyph{}},
	adapter.GoYamux.Name: {color.RGBA{0x0c, 0x85, 0x99, 0xff}, draw.BoxGlyph{}},
	adapter.Smux.Name:    {color.RGBA{0x2f, 0x96, 0x44, 0xff}, draw.TriangleGlyph{}},
	adapter.SmuxV1.Name:  {color.RGBA{0x6c, 0x92, 0x2c, 0xff}, draw.CrossGlyph{}},
	adapter.Muxado.Name:  {color.RGBA{0xb0, 0x4c, 0xc8, 0xff}, draw.PlusGlyph{}},
	adapter.HTTP2.Name:   {color.RGBA{0x7a, 0x5c, 0xe8, 0xff}, draw.PyramidGlyph{}},
	adapter.QUIC.Name:    {color.RGBA{0xa8, 0x80, 0x10, 0xff}, draw.BoxGlyph{}},
}

// draw makes the SVG, or nil if there is nothing to draw.
func (p plotFile) draw(d *data) ([]byte, error) {
	g := p.frame()
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.TextStyle.Color = ink
	legend.YPosition = draw.PosCenter
	legend.Padding = vg.Points(3)
	empty := true
	for _, library := range ranked(d.libraries()) {
		points := p.points(d, library)
		if len(points) == 0 {
			continue
		}
		empty = false
		if err := p.add(g, &legend, library, points); err != nil {
			return nil, err
		}
	}
	if empty {
		return nil, nil
	}
	p.widen(g)
	canvas := vgsvg.New(vg.Points(plotWidth), vg.Points(plotHeight))
	c := draw.New(canvas)
	g.Draw(draw.Crop(c, 0, -vg.Points(legendWidth), 0, 0))
	legend.Draw(draw.Crop(c, vg.Points(plotWidth-legendWidth+8), 0, 0, -vg.Points(30)))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, err
	}
	return restyle(b.Bytes(), p.title), nil
}

// frame is the plot without lines.
func (p plotFile) frame() *plot.Plot {
	g := plot.New()
	g.BackgroundColor = color.Transparent
	g.Title.Text = p.title
	g.Title.TextStyle.Color = ink
	g.Title.Padding = vg.Points(6)
	g.X.Label.Text, g.Y.Label.Text = p.x, p.y
	for _, a := range []*plot.Axis{&g.X, &g.Y} {
		a.Color = ink
		a.Label.TextStyle.Color = ink
		a.Tick.Color = ink
		a.Tick.Label.Color = ink
		a.Scale = plot.LogScale{}
		a.Tick.Marker = decades{}
	}
	if p.names != nil {
		g.NominalX(p.names...)
		g.X.Scale = plot.LinearScale{}
		g.X.Color = ink
		g.X.Tick.Color = ink
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal.Color = color.NRGBA{gridTone, gridTone, gridTone, 0x50}
	g.Add(grid)
	return g
}

// add draws one library.
func (p plotFile) add(g *plot.Plot, legend *plot.Legend, library string, points plotter.XYs) error {
	line, glyphs, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	look := looks[library]
	line.Color, glyphs.Color = look.colour, look.colour
	line.Width = vg.Points(1.2)
	glyphs.Shape, glyphs.Radius = look.shape, vg.Points(3)
	switch library {
	case adapter.VTMux.Name:
		line.Width, glyphs.Radius = vg.Points(2.6), vg.Points(4)
	case adapter.TCP.Name:
		line.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
	}
	if p.dots {
		g.Add(glyphs)
		legend.Add(library, glyphs)
		return nil
	}
	g.Add(line, glyphs)
	legend.Add(library, line, glyphs)
	return nil
}

// widen gives a logarithmic axis room, and a decade at least.
func (p plotFile) widen(g *plot.Plot) {
	g.Y.Min, g.Y.Max = g.Y.Min/1.3, g.Y.Max*1.3
	if g.Y.Max < 10*g.Y.Min {
		middle := math.Sqrt(g.Y.Min * g.Y.Max)
		g.Y.Min, g.Y.Max = middle/math.Sqrt(10), middle*math.Sqrt(10)
	}
	if p.names != nil {
		g.X.Min, g.X.Max = -0.4, float64(len(p.names))-0.6
		return
	}
	g.X.Min, g.X.Max = g.X.Min/1.15, g.X.Max*1.15
}

// decades marks a logarithmic axis at 1, 2 and 5 of each power of ten, and names these as a reader would.
type decades struct{}

func (decades) Ticks(lo, hi float64) (ticks []plot.Tick) {
	few := hi/lo < 2000
	for power := math.Floor(math.Log10(lo)); power <= math.Log10(hi); power++ {
		for m := 1.0; m < 10; m++ {
			v := m * math.Pow(10, power)
			if v < lo || v > hi {
				continue
			}
			label := ""
			if m == 1 || few && (m == 2 || m == 5) {
				label = tickLabel(v)
			}
			ticks = append(ticks, plot.Tick{Value: v, Label: label})
		}
	}
	return ticks
}

func tickLabel(v float64) string {
	if v >= 1 {
		return si(v)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// restyle makes the SVG fit for pages light and dark, and for browsers that lack the fonts it was measured with.
func restyle(svg []byte, title string) []byte {
	style := fmt.Sprintf(`<title>%s</title>
<style>
text { font-family: "Liberation Sans", Arial, Helvetica, sans-serif !important; font-weight: normal; font-style: normal }
@media (prefers-color-scheme: dark) {
	[style*="fill:%[2]s"] { fill: %[3]s !important }
	[style*="stroke:%[2]s"] { stroke: %[3]s !important }
}
</style>
`, title, inkLight, inkDark)
	text := string(svg)
	at := strings.Index(text, "<svg")
	at += strings.Index(text[at:], ">\n") + 2
	return []byte(text[:at] + style + text[at:])
}
