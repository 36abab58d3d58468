package livepage

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var recording = flag.String("recording", "", "write the recording of the live page that README shows into this file")

// TestRecording makes README's recording: steady traffic, an outage of BigQuery and its end. Without -recording it
// makes a shorter one, which nobody sees: whoever needs another one finds that it can be made.
func TestRecording(t *testing.T) {
	file, pace := *recording, time.Second
	if file == "" {
		file, pace = filepath.Join(t.TempDir(), "run.gif"), time.Second/4
	}
	url := startPipeline(t)
	ctx := browser(t)
	do(t, ctx, chromedp.EmulateViewport(1180, 700), chromedp.Navigate(url))
	until(t, ctx, "all parts well", `document.querySelectorAll('.part[data-state=good]').length == 8`)
	time.Sleep(8 * pace) // charts with something in them
	var frames []image.Image
	film := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			next := time.Now().Add(frameTime)
			shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			frame, err := png.Decode(bytes.NewReader(shot))
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, frame)
			time.Sleep(time.Until(next))
		}
	}
	film(2 * pace)
	press := func() {
		eval[bool](t, ctx, `(() => { document.querySelector('#switch-warehouse-down').click(); return true })()`)
	}
	press()
	film(5 * pace)
	press()
	film(6 * pace)
	until(t, ctx, "the backlog to drain", `document.querySelectorAll('.part[data-state=good]').length == 8`)
	film(2 * pace)

	var out bytes.Buffer
	made := animate(frames)
	if err := gif.EncodeAll(&out, made); err != nil {
		t.Fatal(err)
	}
	if len(made.Image) < 3 {
		t.Errorf("nothing moves: %d of %d frames differ", len(made.Image), len(frames))
	}
	const most = 1 << 20
	t.Logf("%d frames, %d bytes", len(frames), out.Len())
	if out.Len() > most {
		t.Errorf("the recording has %d bytes: README's is to stay below %d", out.Len(), most)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

const frameTime = 500 * time.Millisecond

// animate makes a GIF of the frames, each of which has what differs from the one before.
func animate(frames []image.Image) *gif.GIF {
	colours := commonColours(frames)
	at := map[color.RGBA]uint8{} // the nearest colour's index
	index := func(c color.RGBA) uint8 {
		i, ok := at[c]
		if !ok {
			i = uint8(colours.Index(c))
			at[c] = i
		}
		return i
	}
	out := &gif.GIF{}
	var before *image.Paletted
	for _, frame := range frames {
		bounds := frame.Bounds()
		rgba := image.NewRGBA(bounds)
		draw.Draw(rgba, bounds, frame, bounds.Min, draw.Src)
		now := image.NewPaletted(bounds, colours)
		for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
			for x := bounds.Min.X; x < bounds.Max.X; x++ {
				now.SetColorIndex(x, y, index(rgba.RGBAAt(x, y)))
			}
		}
		part := now
		if before != nil {
			changed := image.Rectangle{}
			for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
				for x := bounds.Min.X; x < bounds.Max.X; x++ {
					if now.ColorIndexAt(x, y) != before.ColorIndexAt(x, y) {
						changed = changed.Union(image.Rect(x, y, x+1, y+1))
					}
				}
			}
			if changed.Empty() {
				out.Delay[len(out.Delay)-1] += int(frameTime / (10 * time.Millisecond))
				continue
			}
			// What is the same within the rectangle is see-through: long runs of one index take little room.
			part = image.NewPaletted(changed, colours)
			for y := changed.Min.Y; y < changed.Max.Y; y++ {
				for x := changed.Min.X; x < changed.Max.X; x++ {
					i := now.ColorIndexAt(x, y)
					if i == before.ColorIndexAt(x, y) {
						i = seeThrough
					}
					part.SetColorIndex(x, y, i)
				}
			}
		}
		out.Image = append(out.Image, part)
		out.Delay = append(out.Delay, int(frameTime/(10*time.Millisecond)))
		out.Disposal = append(out.Disposal, gif.DisposalNone)
		before = now
	}
	out.Delay[len(out.Delay)-1] += 200
	return out
}

// seeThrough is the index of the colour that leaves what was there.
const seeThrough = 0

// commonColours are the colours that most pixels have: a page has few, and shades of its letters.
func commonColours(frames []image.Image) color.Palette {
	count := map[color.RGBA]int{}
	for _, frame := range frames {
		b := frame.Bounds()
		for y := b.Min.Y; y < b.Max.Y; y += 2 {
			for x := b.Min.X; x < b.Max.X; x++ {
				r, g, b, _ := frame.At(x, y).RGBA()
				// Shades that nobody tells apart are one.
				count[color.RGBA{uint8(r>>8) &^ 7, uint8(g>>8) &^ 7, uint8(b>>8) &^ 7, 255}]++
			}
		}
	}
	all := make([]color.RGBA, 0, len(count))
	for c := range count {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	palette := color.Palette{color.RGBA{}}
	for _, c := range all[:min(len(all), 127)] {
		palette = append(palette, c)
	}
	return palette
}
