package variants

import (
	"math/rand/v2"
	"slices"
	"sync"

	"gonum.org/v1/gonum/mat"
)

// statistics are what the replacements of one operator are fitted to: moments of what it reads in the network with the
// variants before it, and of what the original makes there.
type statistics struct {
	op    *Op
	plain []*moments       // by group of the operator
	d2s   map[int]*moments // by gamma
	// in and out are samples of single numbers read and made, for the ranges of quantisation.
	in, out   []float32
	inChannel []int
	reasons   map[int]error
	tooLarge  error
	rng       *rand.Rand
	perImage  int
	images    int
	positions []int
	// What several replacements need is computed once.
	computing sync.Mutex
	cached    *wholeFit
}

// wholeFit is the covariances of an operator without groups and the best full weights for what arrives.
type wholeFit struct {
	computing  sync.Mutex
	fit, check centred
	best       *mat.Dense
	err        error
	bases      map[string]*mat.Dense // eigenvectors that do not depend on the rank, by family
}

// basis is the leading eigenvectors, as columns, of a symmetric matrix that is the same for all ranks of a family.
func (f *wholeFit) basis(family string, n int, matrix func() *mat.Dense) (*mat.Dense, error) {
	f.computing.Lock()
	defer f.computing.Unlock()
	if f.bases[family] == nil {
		m := matrix()
		side, _ := m.Dims()
		all, err := leading(m, side)
		if err != nil {
			return nil, err
		}
		if f.bases == nil {
			f.bases = map[string]*mat.Dense{}
		}
		f.bases[family] = all
	}
	side, _ := f.bases[family].Dims()
	return mat.DenseCopyOf(f.bases[family].Slice(0, side, 0, n)), nil
}

// sampled is how many single numbers are kept to choose a range from.
const sampled = 1 << 16

// newStatistics collects for the replacements of o. images is how many will
// come; about rows positions are looked at in all.
func newStatistics(o *Op, gammas []int, images int) *statistics {
	s := &statistics{op: o, d2s: map[int]*moments{}, reasons: map[int]error{}, rng: rand.New(rand.NewPCG(1, 2)),
		images: images}
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
			s.reasons[g] = err
			continue
		}
		s.d2s[g] = m
	}
	rows := max(6000, min(40000, 12*o.patch()))
	s.perImage = max(1, min(o.OutH*o.OutW, (rows+images-1)/images))
	return s
}

// add takes one image: what the operator reads, and what the original makes. Every fifth image is kept for checking.
func (s *statistics) add(image int, in, out []float32) {
	o := s.op
	checking := image%checkEvery == checkEvery-1
	s.positions = s.positions[:0]
	for range s.perImage {
		s.positions = append(s.positions, s.rng.IntN(o.OutH*o.OutW))
	}
	if s.perImage >= o.OutH*o.OutW {
		s.positions = append(s.positions[:0], upTo(o.OutH*o.OutW)...)
	}
	for g, m := range s.plain {
		for _, p := range s.positions {
			s.op.gather(g, p, in, out, m.row(checking))
		}
	}
	for gamma, m := range s.d2s {
		for _, p := range s.positions {
			// One of the gamma^2 inner positions of the outer one.
			y, x := p/o.OutW*gamma+s.rng.IntN(gamma), p%o.OutW*gamma+s.rng.IntN(gamma)
			if o.linear() {
				y, x = p, s.rng.IntN(gamma*gamma)
			}
			s.op.gatherD2S(gamma, y, x, in, out, m.row(checking))
		}
	}
	s.reserve(in, out)
}

// reserve keeps a sample of the numbers of all images.
func (s *statistics) reserve(in, out []float32) {
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

func (s *statistics) finish() {
	for _, m := range s.plain {
		m.finish()
	}
	for _, m := range s.d2s {
		m.finish()
	}
}

// whole is the moments of an operator without groups.
func (s *statistics) whole() (fit, check centred, err error) {
	if s.tooLarge != nil {
		return fit, check, s.tooLarge
	}
	s.computing.Lock()
	defer s.computing.Unlock()
	if s.cached == nil {
		m := s.plain[0]
		s.cached = &wholeFit{err: m.valid()}
		if s.cached.err == nil {
			s.cached.fit, s.cached.check = m.centre(&m.fit), m.centre(&m.check)
		}
	}
	return s.cached.fit, s.cached.check, s.cached.err
}

// channel is that of the input's i-th number.
func (o *Op) channel(i int) int {
	if o.linear() {
		return i % o.C
	}
	return i / (o.H * o.W) % o.C
}

// at is the element of the input at a channel and place, 0 in the padding.
func (o *Op) at(in []float32, c, y, x int) float64 {
	if y < 0 || x < 0 || y >= o.H || x >= o.W {
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

// gather fills a row of moments: what the outputs of a group read at a position, one, and the outputs.
func (o *Op) gather(group, position int, in, out []float32, z []float64) {
	y, x := position/o.OutW, position%o.OutW
	n, channels := 0, o.C/o.Group
	for c := group * channels; c < (group+1)*channels; c++ {
		for dy := range o.KernelH {
			for dx := range o.KernelW {
				z[n] = o.at(in, c, y*o.StrideH-o.Top+dy*o.DilationH, x*o.StrideW-o.Left+dx*o.DilationW)
				n++
			}
		}
	}
	z[n] = 1
	n++
	outputs := o.K / o.Group
	for k := group * outputs; k < (group+1)*outputs; k++ {
		z[n] = o.made(out, k, y, x)
		n++
	}
}

// gatherD2S is gather for the inner convolution of a D2S: at position (y, x) of
// the output that is gamma times as large.
func (o *Op) gatherD2S(gamma, y, x int, in, out []float32, z []float64) {
	c, k, n := o.C/(gamma*gamma), o.K/(gamma*gamma), 0
	if o.linear() { // x numbers the blocks of a row
		for i := range c {
			z[i] = o.at(in, x*c+i, y, 0)
		}
		z[c] = 1
		for i := range k {
			z[c+1+i] = o.made(out, x*k+i, y, 0)
		}
		return
	}
	for i := range c {
		for dy := range o.KernelH {
			for dx := range o.KernelW {
				iy, ix := y*o.StrideH-gamma*o.Top+dy*o.DilationH, x*o.StrideW-gamma*o.Left+dx*o.DilationW
				if iy < 0 || ix < 0 {
					z[n] = 0
				} else {
					z[n] = o.at(in, (iy%gamma*gamma+ix%gamma)*c+i, iy/gamma, ix/gamma)
				}
				n++
			}
		}
	}
	z[n] = 1
	n++
	for i := range k {
		z[n] = o.made(out, (y%gamma*gamma+x%gamma)*k+i, y/gamma, x/gamma)
		n++
	}
}
