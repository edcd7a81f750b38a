package variants

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// Want is where a variant of a layer is wanted: an accelerator, and how long it may take there at most.
type Want struct {
	Accelerator int
	Most        time.Duration
}

// Lossless is the error up to which a candidate counts as one without any: of several, the fastest is chosen. What an
// error as small does to the accuracy is measured all the same.
const Lossless = 0.002

// Why candidates are left out before they are fitted.
var (
	// ErrSlow: it is not fast enough anywhere where a variant is wanted.
	ErrSlow = errors.New("it is not fast enough where a variant is wanted")
	// ErrUnneeded: wherever it is fast enough, one that is lossless is too.
	ErrUnneeded = errors.New("one that loses next to nothing is fast enough")
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
		if c.Refusal == nil && !slices.ContainsFunc(wants, func(w Want) bool { return c.fits(w) }) {
			c.Refusal = ErrSlow
		}
	}
}

func (c *Candidate) fits(w Want) bool {
	t := c.at(w.Accelerator)
	return t > 0 && t <= w.Most
}

// settle refuses what is not fitted yet and fast enough only where a lossless candidate is too: it cannot be chosen.
func settle(list []*Candidate, wants []Want) {
	left := slices.DeleteFunc(slices.Clone(wants), func(w Want) bool {
		return slices.ContainsFunc(list, func(c *Candidate) bool {
			return c.fitted && c.Refusal == nil && c.Error <= Lossless && c.fits(w)
		})
	})
	for _, c := range unfitted(list) {
		if !slices.ContainsFunc(left, c.fits) {
			c.Refusal = ErrUnneeded
		}
	}
}

// precise reports whether a candidate computes the same function with fewer
// bits, which costs next to nothing as a rule.
func (c *Candidate) precise() bool { return c.Family == "int8" || c.Family == "fp16" }

// Shape is the same for candidates that differ in nothing but names and the
// values of weights, and so take the same time where the same surrounds them.
func (c *Candidate) Shape() string {
	g := c.upTo(len(c.ops)).GetGraph()
	numbers := map[string]int{}
	number := func(name string) int {
		if name == "" {
			return -1
		}
		n, known := numbers[name]
		if !known {
			n = len(numbers)
			numbers[name] = n
		}
		return n
	}
	h := sha256.New()
	put := func(m proto.Message) {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		fmt.Fprintf(h, " %x %v\n", data, err)
	}
	for _, t := range g.GetInput() {
		fmt.Fprint(h, number(t.GetName()))
		put(t.GetType())
	}
	stored := map[string]*pb.TensorProto{}
	for _, t := range g.GetInitializer() {
		stored[t.GetName()] = t
	}
	for _, n := range g.GetNode() {
		fmt.Fprintln(h, n.GetDomain(), n.GetOpType())
		for _, name := range n.GetInput() {
			fmt.Fprint(h, number(name))
			if t := stored[name]; t != nil {
				fmt.Fprint(h, t.GetDataType(), t.GetDims())
				if small(t) { // sizes, axes, steps: they say what the operator does
					fmt.Fprint(h, t.GetRawData(), t.GetInt64Data())
				}
			}
		}
		for _, name := range n.GetOutput() {
			fmt.Fprint(h, " ", number(name))
		}
		for _, a := range n.GetAttribute() {
			put(a)
		}
	}
	for _, t := range g.GetOutput() {
		fmt.Fprintln(h, number(t.GetName()))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// small tells whole numbers that steer an operator from weights.
func small(t *pb.TensorProto) bool {
	size := int64(1)
	for _, d := range t.GetDims() {
		size *= d
	}
	return t.GetDataType() == int32(pb.TensorProto_INT64) && size <= 8
}
