package variants

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// Want is where a variant of a layer is wanted: an accelerator, and how long it may take there at most.
type Want struct {
	Accelerator int
	Most        time.Duration
	// Lower is true where only families of lower precision count.
	Lower bool
	// Faster is true where every bit of speed counts: one that is [Worthwhile] times as fast as a lossless one is wanted
	// too, though it loses more.
	Faster bool
}

// Worthwhile is how much faster something has to be to be worth anything that it loses.
const Worthwhile = 1.05

// Lossless is the error up to which a candidate counts as one without any: of several, the fastest is chosen. What an
// error as small does to the accuracy is measured all the same.
const Lossless = 0.002

// Lossy is the error above which a variant will hardly be of use: it costs too much accuracy, and what it makes of the
// activations spoils what comes behind.
const Lossy = 0.3

// Why candidates are left out before they are fitted.
var (
	// ErrSlow: it is not fast enough anywhere where a variant is wanted.
	ErrSlow = errors.New("it is not fast enough where a variant is wanted")
	// ErrLossy: one of its family that computes more loses too much already.
	ErrLossy = errors.New("one of its family that computes more loses too much")
	// ErrUnneeded: wherever it is fast enough, one that loses less, or next to nothing, is too.
	ErrUnneeded = errors.New("one that loses less is fast enough")
)

// Least is a lower bound on the time of a candidate on a CPU where the original takes the given time: its share of the
// multiply-accumulates at a better rate than any that was seen. Of 1598 measured candidates of the trained networks the
// best had 0.98 of the original's time for each of its multiply-accumulates, 0.31 in 8 bits.
func (c *Candidate) Least(original time.Duration) time.Duration {
	rate := 0.8
	if strings.Contains(c.Family, "int8") {
		rate = 0.2
	}
	if c.OriginalMACs == 0 {
		return 0
	}
	return time.Duration(rate * float64(original) * float64(c.MACs) / float64(c.OriginalMACs))
}

// Screen refuses the candidates that are measured and not fast enough on any of the accelerators where they are wanted.
// With Most as long as the original takes, that is what is no faster.
func Screen(list []*Candidate, wants []Want) {
	for _, c := range list {
		if c.Refusal == nil && !slices.ContainsFunc(wants, func(w Want) bool { return c.Fits(w) }) {
			c.Refusal = ErrSlow
		}
	}
}

// Fits reports whether a candidate was measured and is fast enough where it is wanted.
func (c *Candidate) Fits(w Want) bool {
	t := c.at(w.Accelerator)
	return t > 0 && t <= w.Most && (!w.Lower || Lower(c.Family))
}

// settle refuses what is not fitted yet and fast enough only where a lossless candidate is too: it cannot be chosen.
func settle(list []*Candidate, wants []Want) {
	lossless := slices.DeleteFunc(slices.Clone(list), func(c *Candidate) bool {
		return !c.fitted || c.Refusal != nil || c.Error > Lossless
	})
	for _, c := range unfitted(list) {
		needed := func(w Want) bool {
			return c.Fits(w) && !slices.ContainsFunc(lossless, func(x *Candidate) bool {
				return x.Fits(w) && !(w.Faster && Worthwhile*float64(c.at(w.Accelerator)) < float64(x.at(w.Accelerator)))
			})
		}
		if !slices.ContainsFunc(wants, needed) {
			c.Refusal = ErrUnneeded
		}
	}
}

// closest are the candidates to be fitted next: all that are left, or where every bit of speed counts, of each family
// the one that computes most, after what can only lose more is refused.
func closest(list []*Candidate, wants []Want) (next []*Candidate) {
	if len(wants) > 0 {
		settle(list, wants)
	}
	by := map[string]*Candidate{}
	for _, c := range unfitted(list) {
		if !slices.ContainsFunc(wants, func(w Want) bool { return w.Faster && c.Fits(w) }) ||
			slices.ContainsFunc(wants, func(w Want) bool { return !w.Faster && c.Fits(w) }) {
			next = append(next, c)
			continue
		}
		least := 0.0 // what it loses at least
		for _, x := range list {
			if x.fitted && x.Family == c.Family && x.MACs >= c.MACs {
				least = max(least, x.Error)
			}
		}
		better := func(x *Candidate) bool {
			return x.fitted && x.Refusal == nil && x.Error <= least && !slices.ContainsFunc(wants, func(w Want) bool {
				return c.Fits(w) && !(x.Fits(w) && x.at(w.Accelerator) <= c.at(w.Accelerator))
			})
		}
		if least > Lossy {
			c.Refusal = ErrLossy
		} else if slices.ContainsFunc(list, better) {
			c.Refusal = ErrUnneeded
		} else if best := by[c.Family]; best == nil || c.MACs > best.MACs {
			by[c.Family] = c
		}
	}
	for _, c := range list { // in their order
		if by[c.Family] == c {
			next = append(next, c)
		}
	}
	return next
}

// precise reports whether a candidate computes the same function with fewer
// bits, which costs next to nothing as a rule.
func (c *Candidate) precise() bool { return c.Family == "int8" || Lower(c.Family) }

// Shape is the same for candidates that differ in nothing but names and the values of weights, and so take the same
// time where the same surrounds them.
func (c *Candidate) Shape() string {
	g := c.upTo(len(c.ops)).GetGraph()
	numbers := map[string]string{"": ""}
	number := func(name string) string {
		if _, known := numbers[name]; !known {
			numbers[name] = strconv.Itoa(len(numbers))
		}
		return numbers[name]
	}
	out := &pb.GraphProto{Input: g.GetInput(), Node: g.GetNode(), Output: g.GetOutput()}
	if c.Provider != "" {
		out.Name = proto.String(fmt.Sprint(c.Provider, c.Options))
	}
	for _, t := range out.Input {
		t.Name = proto.String(number(t.GetName()))
	}
	for _, n := range out.Node {
		n.Name = nil
		for _, names := range [][]string{n.Input, n.Output} {
			for i, name := range names {
				names[i] = number(name)
			}
		}
	}
	for _, t := range out.Output {
		t.Name = proto.String(number(t.GetName()))
	}
	for _, t := range g.GetInitializer() {
		x := &pb.TensorProto{Name: proto.String(number(t.GetName())), DataType: t.DataType, Dims: t.Dims}
		if small(t) { // sizes, axes, steps: they say what the operator does
			x.RawData, x.Int64Data = t.RawData, t.Int64Data
		}
		out.Initializer = append(out.Initializer, x)
	}
	slices.SortFunc(out.Initializer, func(a, b *pb.TensorProto) int { return cmp.Compare(a.GetName(), b.GetName()) })
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(out)
	if err != nil {
		return err.Error() // its ONNX model fails with the same
	}
	return SHA256(data)
}

// small tells whole numbers that steer an operator from weights.
func small(t *pb.TensorProto) bool {
	size := int64(1)
	for _, d := range t.GetDims() {
		size *= d
	}
	return t.GetDataType() == int32(pb.TensorProto_INT64) && size <= 8
}
