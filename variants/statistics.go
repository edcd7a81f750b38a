package variants

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"gonum.org/v1/gonum/mat"
)

// statistics are what the replacements of one operator are fitted to: what it reads in the network with the variants
// before it, and what the original makes there.
type statistics struct {
	op *Op
	// groups are the problems by group of the operator; none where they are too large. d2s are those of the inner
	// convolutions, by gamma.
	groups   []problem
	d2s      map[int]problem
	tooLarge error
	// in and out are samples of single numbers read and made, for the ranges of quantisation.
	in, out   []float32
	inChannel []int

	// What several replacements need is computed once.
	computing sync.Mutex
	computed  map[string]*mat.Dense
}

// once is a matrix that is computed by the first who needs it.
func (s *statistics) once(name string, compute func() (*mat.Dense, error)) (*mat.Dense, error) {
	s.computing.Lock()
	defer s.computing.Unlock()
	if m := s.computed[name]; m != nil {
		return m, nil
	}
	m, err := compute()
	if err == nil {
		s.computed[name] = m
	}
	return m, err
}

// basis is the leading eigenvectors, as columns, of a symmetric matrix that is the same for all ranks of a family.
func (s *statistics) basis(family string, n int, matrix func() *mat.Dense) (*mat.Dense, error) {
	all, err := s.once(family, func() (*mat.Dense, error) {
		m := matrix()
		side, _ := m.Dims()
		return leading(m, side)
	})
	if err != nil {
		return nil, err
	}
	side, _ := all.Dims()
	return mat.DenseCopyOf(all.Slice(0, side, 0, n)), nil
}

// whole is the problem of an operator without groups.
func (s *statistics) whole() (problem, error) {
	if s.tooLarge != nil {
		return problem{}, s.tooLarge
	}
	return s.groups[0], s.groups[0].err
}

// best is the best full replacement of the weights of an operator without groups, given what arrives: the original's
// where exactly what it was made for arrives.
func (s *statistics) best() (problem, *mat.Dense, error) {
	p, err := s.whole()
	if err != nil {
		return p, nil, err
	}
	w, err := s.once("best", func() (*mat.Dense, error) {
		w := s.op.original()
		if p.lost(w, p.fit.intercept(w)) <= 1e-9 {
			return w, nil
		}
		w, _, err := p.solve(w)
		return w, err
	})
	return p, w, err
}

// outputVariance is that of the original's outputs, summed over channels, on the rows for checking.
func (s *statistics) outputVariance() (v float64) {
	for _, p := range s.groups {
		if p.err == nil { // half precision needs no problem
			v += p.check.variance()
		}
	}
	return v
}

// collector gathers statistics, image after image.
type collector struct {
	*statistics
	plain     []*moments       // by group of the operator
	inner     map[int]*moments // of D2S, by gamma
	rng       *rand.Rand
	perImage  int
	images    int
	positions []int
}

// sampled is how many single numbers are kept to choose a range from.
const sampled = 1 << 16

// newCollector collects for the replacements of o. images is how many will come.
func newCollector(o *Op, gammas []int, images int) *collector {
	s := &collector{statistics: &statistics{op: o, d2s: map[int]problem{}, computed: map[string]*mat.Dense{}},
		inner: map[int]*moments{}, rng: rand.New(rand.NewPCG(1, 2)), images: images}
	for range o.Group {
		m, err := newMoments(o.patch(), o.K/o.Group)
		if err != nil {
			s.tooLarge, s.plain = err, nil
			break
		}
		s.plain = append(s.plain, m)
	}
	for _, g := range gammas {
		m, err := newMoments(o.patch()/(g*g), o.K/(g*g))
		if err != nil {
			s.d2s[g] = problem{err: err}
			continue
		}
		s.inner[g] = m
	}
	rows := max(6000, min(40000, 12*o.patch()))
	s.perImage = max(1, min(o.OutH*o.OutW, (rows+images-1)/images))
	return s
}

// add takes one image: what the operator reads, and what the original makes. Every fifth image is kept for checking.
func (s *collector) add(image int, in, out []float32) {
	o := s.op
	checking := image%checkEvery == checkEvery-1
	s.positions = s.positions[:0]
	for range s.perImage {
		s.positions = append(s.positions, s.rng.IntN(o.OutH*o.OutW))
	}
	if s.perImage >= o.OutH*o.OutW {
		s.positions = from(0, o.OutH*o.OutW)
	}
	for g, m := range s.plain {
		for _, p := range s.positions {
			o.gather(patch{o.Group, g, 1, p / o.OutW, p % o.OutW}, in, out, m.row(checking))
		}
	}
	for _, gamma := range slices.Sorted(maps.Keys(s.inner)) {
		for _, p := range s.positions {
			// One of the gamma^2 inner positions of the outer one, or blocks of a row.
			of := patch{gamma * gamma, 0, gamma, p/o.OutW*gamma + s.rng.IntN(gamma), p%o.OutW*gamma + s.rng.IntN(gamma)}
			if o.linear() {
				of = patch{gamma * gamma, s.rng.IntN(gamma * gamma), 1, p, 0}
			}
			o.gather(of, in, out, s.inner[gamma].row(checking))
		}
	}
	s.reserve(in, out)
}

// reserve keeps a sample of the numbers of all images.
func (s *collector) reserve(in, out []float32) {
	want := max(1, sampled/s.images)
	for range want {
		i := s.rng.IntN(len(in))
		s.in, s.inChannel = append(s.in, in[i]), append(s.inChannel, s.op.channel(i))
		s.out = append(s.out, out[s.rng.IntN(len(out))])
	}
	// The extremes are rare and matter.
	for _, x := range []float32{slices.Max(in), slices.Min(in)} {
		s.in, s.inChannel = append(s.in, x), append(s.inChannel, s.op.channel(slices.Index(in, x)))
	}
	s.out = append(s.out, slices.Max(out), slices.Min(out))
}

// checkEvery is every how many images one is not fitted to, but checked with.
const checkEvery = 5

// finish makes the problems of what was collected.
func (s *collector) finish() {
	for _, m := range s.plain {
		s.groups = append(s.groups, m.finish())
	}
	for g, m := range s.inner {
		s.d2s[g] = m.finish()
	}
}

// channel is that of the input's i-th number.
func (o *Op) channel(i int) int {
	if o.linear() {
		return i % o.C
	}
	return i / (o.H * o.W) % o.C
}

// at is the element of the input at a channel and place, 0 in the padding behind it.
func (o *Op) at(in []float32, c, y, x int) float64 {
	if y >= o.H || x >= o.W {
		return 0
	}
	if o.linear() {
		return float64(in[y*o.C+c])
	}
	return float64(in[(c*o.H+y)*o.W+x])
}

func (o *Op) made(out []float32, k, y, x int) float64 {
	if o.linear() {
		return float64(out[y*o.K+k])
	}
	return float64(out[(k*o.OutH+y)*o.OutW+x])
}

// patch is what an output reads: with the channels in so many parts, those of one part, at a position of an output that
// is gamma times as large as the operator's.
type patch struct{ parts, part, gamma, y, x int }

// gather fills a row of moments: the patch, one, and the outputs.
func (o *Op) gather(p patch, in, out []float32, z []float64) {
	c, k, n := o.C/p.parts, o.K/p.parts, 0
	for i := p.part * c; i < (p.part+1)*c; i++ {
		for dy := range o.KernelH {
			y := p.y*o.StrideH - p.gamma*o.Top + dy*o.DilationH
			for dx := range o.KernelW {
				x := p.x*o.StrideW - p.gamma*o.Left + dx*o.DilationW
				z[n] = 0
				if y >= 0 && x >= 0 {
					z[n] = o.at(in, (y%p.gamma*p.gamma+x%p.gamma)*c+i, y/p.gamma, x/p.gamma)
				}
				n++
			}
		}
	}
	z[n] = 1
	for i := p.part * k; i < (p.part+1)*k; i++ {
		n++
		z[n] = o.made(out, (p.y%p.gamma*p.gamma+p.x%p.gamma)*k+i, p.y/p.gamma, p.x/p.gamma)
	}
}
