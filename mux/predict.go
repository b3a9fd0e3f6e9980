package mux

import "github.com/vtmux/vtmux/pool"

// predictFrom is the least payload that is predicted, and the least slice that it is read
// into. Smaller ones had better be filled many by one read, though by copy.
const predictFrom = 32 << 10

// A prediction is the payload that will come next, seen from those that came before. Who
// leads for a bulk transfer waits between two frames mostly, where no header tells what
// comes: without a prediction most of it goes through the slab, by copy.
type prediction struct {
	c     *conn // whose payloads came last, or nil
	size  int   // the latest large one
	run   int   // how many large ones came in a row, at most one small one behind each: 0, 1, or 2 and more
	small bool  // one small one came behind: a Write of 64 KiB is cut into 65,535 bytes and 1
}

// note takes a payload of n bytes for c into account; nil: for nobody.
func (p *prediction) note(c *conn, n int) {
	switch {
	case c == nil || (c != p.c || p.small) && n < predictFrom:
		*p = prediction{}
	case c != p.c:
		*p = prediction{c: c, size: n, run: 1}
	case n < predictFrom:
		p.small = true
	default:
		p.size, p.run, p.small = n, min(p.run+1, 2), false
	}
}

// next returns how large c's next payload is likely to be, 0 if nothing is known. It
// takes two to see a habit: where several connections send bulk they take turns.
func (p *prediction) next(c *conn) int {
	if p.run < 2 || c != p.c {
		return 0
	}
	return p.size
}

// fillPredicted reads between two frames: the next header into the slab, what is likely
// to be its payload straight into the leader's slice, size bytes at most, and what is
// behind into the slab. What else comes there moves from the slice to the slab.
func (s *session) fillPredicted(size int) error {
	r := &s.in
	head := s.headerLen()
	p := r.p[r.n:]
	p = p[:min(len(p), size)]
	b := r.space(head + directTail)
	n, err := s.t.ReadVec(b[:head], p, b[head:])
	if n <= head {
		r.w += n
		return s.filled(n, err)
	}
	r.w += head
	s.parseAll() // no payload, so nothing that could stall
	in := min(n-head, len(p))
	tail := n - head - in
	own := 0
	if r.cur == r.self && r.self.wantsDirect() {
		own = min(in, r.remaining())
	}
	s.took(own)
	if rest := p[own:in]; len(rest) > 0 {
		r.insert(rest, tail)
		clear(rest) // it may be another connection's
	}
	r.w += tail
	if s.dead.Load() {
		r.r = r.w // it may be that header that ended the session
	}
	return s.filled(n, err)
}

// insert puts p into the slab at w, in front of the tail bytes that lie there.
func (r *readSide) insert(p []byte, tail int) {
	from := r.slab.Bytes()[r.w:]
	to := from
	if need := len(p) + tail; need > len(from) {
		// That is a little more than readSlabSize at most. space returns to that size.
		slab := pool.GetSlab(max(need, readSlabSize))
		to = slab.Bytes()
		copy(to[len(p):], from[:tail])
		r.slab.Release()
		r.slab, r.r, r.w = slab, 0, 0
	} else {
		copy(to[len(p):], from[:tail])
	}
	r.w += copy(to, p)
}
