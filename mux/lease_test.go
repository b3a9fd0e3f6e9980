package mux

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// leases is a session whose flusher's role the test holds, so that what is written stays in staging.
type leases struct {
	*bare
	x, y *Conn
}

func inLeases(t *testing.T, lending bool, f func(leases)) {
	inBubbles(t, func(t *testing.T, pr Protocol) {
		b := newBareOf(t, pr, lending)
		l := leases{b, b.open(1), b.open(2)}
		l.hold()
		f(l)
		runtime.KeepAlive(l)
	})
}

func (l leases) hold() {
	l.t.Helper()
	if !l.s.out.claim() {
		l.t.Fatal("the role is not free")
	}
}

// release lets go of the role, in favour of a flusher that may block.
func (l leases) release() { go l.s.runFlusher(nil, nil) }

// write writes p, which must not wait.
func (l leases) write(c *Conn, p string) {
	l.t.Helper()
	if r := l.now("Write", background(func() (int, error) { return c.Write([]byte(p)) })); r.n != len(p) || r.err != nil {
		l.t.Fatalf("Write: %d, %v", r.n, r.err)
	}
}

// lend gives x a lease, with frames "one" and "two" in staging.
func (l leases) lend() {
	l.t.Helper()
	l.write(l.x, "one")
	l.write(l.x, "two")
	if l.x.c.leased == 0 {
		l.t.Fatal("no lease")
	}
}

// reserves is the part of a Write to x that reserves, and gets a lease. It leaves the write lock
// held. Fill copies.
func (l leases) reserves(p string) (i, slot int, fill func()) {
	l.t.Helper()
	c, head := l.x.c, l.s.headerLen()
	if err := c.lockWrite(); err != nil {
		l.t.Fatal(err)
	}
	b, i, slot, ok := l.s.out.reserveFor(c, head+len(p), len(p), 1000)
	if !ok || slot != 0 {
		l.t.Fatalf("slot %d, %v", slot, ok)
	}
	return i, slot, func() {
		c.putHeader(b, len(p))
		copy(b[head:], p)
	}
}

// sent reads frames of x.
func (l leases) sent(payloads ...string) {
	l.t.Helper()
	for _, p := range payloads {
		l.frame(1, []byte(p))
	}
}

// atRest checks that nothing is left when all has been sent.
func (l leases) atRest() {
	l.t.Helper()
	synctest.Wait()
	o := &l.s.out
	if role := o.role.Load(); role != flushIdle || o.published() || l.x.c.leased != 0 || l.x.c.wlock.v.Load() != 0 {
		l.t.Errorf("role %d, published %v, leased %d, write lock %d", role, o.published(), l.x.c.leased, l.x.c.wlock.v.Load())
	}
	for i := range o.stg.leases {
		for j := range o.stg.leases[i] {
			if o.stg.leases[i][j].owner.Load() != nil {
				l.t.Errorf("lease %d of buffer %d has an owner", j, i)
			}
		}
	}
}

// From its second frame in a buffer on, a connection has room of its own, and reserves no
// more until that is full.
// To see it fail: in writeHeld, leave writeLeased out.
func TestSecondFrameInABufferGetsALease(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.write(l.x, "one")
		if l.x.c.leased != 0 {
			t.Error("a lease for the first frame")
		}
		l.write(l.x, "two")
		c, was := l.x.c, l.s.out.stg.word.Load()
		c.streak.Store(0) // as after a Read
		c.expected.Store(l.s.expect.add())
		l.write(l.x, "six")
		l.write(l.x, "") // is no frame
		if is := l.s.out.stg.word.Load(); is != was || c.leased == 0 {
			t.Errorf("staging's word went from %#x to %#x, leased %d", was, is, c.leased)
		}
		if c.sent != 9 || c.streak.Load() == 0 || l.s.expect.left() != 0 {
			t.Errorf("%d bytes sent, streak %#x, %d Writes expected", c.sent, c.streak.Load(), l.s.expect.left())
		}
		l.release()
		l.sent("one", "two", "six")
		l.atRest()

		l.hold()
		l.write(l.x, "new")
		if l.x.c.leased != 0 {
			t.Error("a lease for the first frame in the next buffer")
		}
		l.release()
		l.sent("new")
		l.atRest()
	})
}

// Room that nobody has reserved behind goes back when the lease ends, and the next frames
// leave no gap.
// To see it fail: in endLease, leave giveBack out.
func TestWhatIsLeftOfALeaseGoesBack(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.lend()
		l.write(l.x, fmt.Sprintf("%9000s", "too long for a lease"))
		head := l.s.headerLen()
		if at := wordOffset(l.s.out.stg.word.Load()); at != 2*(head+3)+head+9000 {
			t.Errorf("%d bytes of staging are reserved", at)
		}
		l.release()
		l.sent("one", "two", fmt.Sprintf("%9000s", "too long for a lease"))
		l.atRest()
	})
}

// While nothing is reserved behind it, a lease grows, by as much as it has, and for whole frames.
// To see it fail: in growLease, leave the rounding out.
func TestLeaseGrows(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.lend()
		want := []string{"one", "two"}
		n := int32(l.s.headerLen() + 3)
		slots := wordLeases(l.s.out.stg.word.Load())
		for i := range 1500 {
			p := fmt.Sprintf("%03d", i%1000)
			want = append(want, p)
			l.write(l.x, p)
			if r, _ := l.x.c.lease(); (r.end-r.next)%n != 0 || r.end-r.next > max(r.next-r.start, leaseMax) {
				t.Fatalf("frame %d: the lease is from %d to %d, and used up to %d", i, r.start, r.end, r.next)
			}
		}
		if is := wordLeases(l.s.out.stg.word.Load()); is != slots {
			t.Errorf("%d leases, want %d", is, slots)
		}
		l.release()
		l.sent(want...)
		l.atRest()
	})
}

// A Write that runs while its buffer is sealed fills its lease up there, and takes and gives
// nothing in the other buffer, where just as much is reserved.
// To see it fail: in growLease, don't look at the seals; in giveBack, at the buffer.
func TestLeaseInASealedBufferLeavesTheOtherAlone(t *testing.T) {
	for _, fill := range []bool{true, false} {
		inLeases(t, false, func(l leases) {
			l.lend()
			want := []string{"one", "two"}
			c := l.x.c
			if err := c.lockWrite(); err != nil {
				t.Fatal(err)
			}
			if l.s.out.collect() {
				t.Fatal("a buffer is settled, and a Write may still copy into it")
			}
			r, _ := c.lease()
			for fill && r.next < r.end {
				want = append(want, "six")
				if !c.writeLeased([]byte("six")) {
					t.Fatal("a lease is full before its end")
				}
			}
			y := fmt.Sprintf("%*d", int(r.end)-l.s.headerLen(), 1)
			l.write(l.y, y)
			was := l.s.out.stg.word.Load()
			if fill && c.writeLeased([]byte("six")) {
				t.Error("a lease has grown in a sealed buffer")
			}
			go c.unlockWrite()
			synctest.Wait() // until the flusher is in the transport, which takes nothing
			if is := l.s.out.stg.word.Load(); is != was {
				t.Errorf("the other buffer's word went from %#x to %#x", was, is)
			}
			l.sent(want...)
			l.frame(2, []byte(y))
			l.atRest()
		})
	}
}

// A lease that is full, and can't grow, is followed by one of twice its length.
// To see it fail: in writeCopy, leave more as it is.
func TestFullLeaseIsFollowedByALongerOne(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.lend()
		r, _ := l.x.c.lease()
		long := r.end - r.start
		l.write(l.x, "six")
		l.write(l.y, "y")
		l.write(l.x, "new")
		if r, _ := l.x.c.lease(); r.end-r.start != 2*long {
			t.Errorf("a lease of %d bytes is followed by one of %d", long, r.end-r.start)
		}
		l.release()
		l.sent("one", "two", "six")
		l.frame(2, []byte("y"))
		l.sent("new")
		l.atRest()
	})
}

// Frames that are long get no lease: as few of them fit into a buffer, one that is not used
// would be missed.
func TestNoLeaseForLongFrames(t *testing.T) {
	inLeases(t, false, func(l leases) {
		p := string(testBytes(leaseFrame, 1)) // and a header
		for range 2 {
			l.write(l.x, p)
			if l.x.c.leased != 0 {
				t.Error("a lease for a long frame")
			}
		}
		l.release()
		l.sent(p, p)
		l.atRest()
	})
}

// What is known of a buffer's gaps is of no use for a batch without it.
// To see it fail: in build, close gaps where nothing was sealed.
func TestGapIsNoneOfTheNextBatch(t *testing.T) {
	inLeases(t, true, func(l leases) {
		l.lend()
		l.write(l.y, "y") // behind the lease, so that it leaves a gap
		l.release()
		l.sent("one", "two")
		l.frame(2, []byte("y"))
		l.atRest()
		big := testBytes(lendFrom, 1)
		wrote := background(func() (int, error) { return l.x.Write(big) })
		l.sent(string(big))
		l.now("Write", wrote)
		l.atRest()
	})
}

// What a Write has counted is in Stats when the session has ended, though it was not sent.
// To see it fail: in failAll, leave revoke out.
func TestLeaseOfASessionThatEndsIsCounted(t *testing.T) {
	inLeases(t, false, func(l leases) {
		before := l.s.payloadOut()
		l.lend()
		l.s.dead.Store(true)
		l.s.runFlusher(nil, nil)
		if n := l.s.payloadOut() - before; n != 6 {
			t.Errorf("%d bytes of payload are counted, want 6", n)
		}
		l.s.dead.Store(false)
		l.s.end(net.ErrClosed)
	})
}

// Who holds the write lock while the buffer is sealed ends the lease, and has the role then.
// To see it fail: in revoke, tryLock(0).
func TestLeaseOfAWriteThatRunsEndsWithIt(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.lend()
		if err := l.x.c.lockWrite(); err != nil {
			t.Fatal(err)
		}
		if l.s.out.collect() {
			t.Fatal("a buffer is settled, and a Write may still copy into it")
		}
		l.write(l.y, "y") // into the other buffer
		if !l.x.c.writeLeased([]byte("six")) {
			t.Fatal("no room in a lease that has just begun")
		}
		go l.x.c.unlockWrite()
		l.sent("one", "two", "six")
		l.frame(2, []byte("y"))
		l.atRest()
	})
}

// A buffer that is sealed before the flusher can see the lease in it:
//
//  1. A Write reserves, with a lease.
//  2. The flusher seals the buffer. It finds no owner, and the Write uncommitted.
//  3. The Write begins its lease.
//
// To see it fail: in keep, don't look at the word.
func TestLeaseInASealedBufferIsNotKept(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.write(l.x, "one")
		c := l.x.c
		i, slot, fill := l.reserves("two")
		if l.s.out.collect() {
			t.Fatal("a buffer is settled with a reservation in it")
		}
		fill()
		if !c.keep(i, slot) {
			t.Fatal("the last one out did not get the role")
		}
		go func() {
			l.s.flush(c, true)
			c.unlockWrite()
		}()
		l.sent("one", "two")
		l.atRest()
	})
}

// Where nobody flushes there is nothing to save: the Write that comes flushes itself.
func TestNoLeaseWhereNobodyFlushes(t *testing.T) {
	inBubbles(t, func(t *testing.T, pr Protocol) {
		b := newBareOf(t, pr, false)
		h := b.open(1)
		c, o := h.c, &b.s.out
		c.wlock.v.Store(wHeld)
		for range 2 {
			_, i, slot, ok := o.reserveFor(c, 100, 80, 1000)
			if !ok || slot != -1 {
				t.Errorf("slot %d, %v", slot, ok)
			}
			o.stg.commit(i, 100)
		}
		b.s.end(net.ErrClosed) // what is reserved is nothing that can be sent
		runtime.KeepAlive(h)
	})
}

// A Write that finds the role free after all sends what it has published before it returns.
// To see it fail: in flush, leave endLease out.
func TestWriteThatFlushesHasNoLease(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.write(l.x, "one")
		c := l.x.c
		i, slot, fill := l.reserves("two")
		fill()
		l.s.out.role.Store(flushBusy) // nobody has published that has claimed, and so
		if !l.s.out.rest() {
			t.Fatal("the role is dirty")
		}
		l.s.inline = true
		flushed := async(func() error {
			l.s.flush(c, c.keep(i, slot))
			return nil
		})
		l.sent("one", "two")
		<-flushed
		if l.s.out.published() {
			t.Error("what was written is not sent, and flush has returned")
		}
		c.unlockWrite()
		l.atRest()
	})
}

// A lent payload goes behind what is in the lease, and the flusher must not wait for the Write
// that waits for it.
// To see it fail: in writeLent, leave letGo out.
func TestLentPayloadGoesBehindTheLease(t *testing.T) {
	inLeases(t, true, func(l leases) {
		l.lend()
		big := testBytes(lendFrom, 1)
		wrote := background(func() (int, error) { return l.x.Write(big) })
		synctest.Wait()
		l.release()
		l.sent("one", "two", string(big))
		if r := l.now("Write", wrote); r.n != len(big) || r.err != nil {
			t.Errorf("Write: %d, %v", r.n, r.err)
		}
		l.atRest()
	})
}

// What is in a lease is sent while its connection waits for credit: the peer can't give any
// before it has that.
// To see it fail: in awaitCredit, leave letGo out.
func TestWriteThatWaitsForCreditHasNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBareOf(t, Protocol1, false)
		l := leases{b, b.open(1), b.open(2)}
		l.hold()
		l.lend()
		l.x.c.sendLimit.Store(l.x.c.sent)
		wrote := background(func() (int, error) { return l.x.Write([]byte("six")) })
		synctest.Wait()
		l.release()
		l.sent("one", "two")
		l.pending("Write", wrote)
		window := make([]byte, wire.WindowLen)
		wire.PutWindow(window, wire.FlagYours, b.one.ids[1], l.x.c.sent+3)
		if _, err := l.far.Write(window); err != nil {
			t.Fatal(err)
		}
		l.sent("six")
		if r := l.now("Write", wrote); r.n != 3 || r.err != nil {
			t.Errorf("Write: %d, %v", r.n, r.err)
		}
		l.atRest()
		runtime.KeepAlive(l)
	})
}

// The end of a half goes behind what is in its lease.
func TestEndGoesBehindTheLease(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.lend()
		if err := l.x.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		l.release()
		l.sent("one", "two", "")
		l.atRest()
	})
}

// A connection that several goroutines write to passes its lock on with each Write, and the
// lease would end each time.
func TestConnectionThatOthersWaitForGetsNoLease(t *testing.T) {
	inLeases(t, false, func(l leases) {
		l.write(l.x, "one")
		c := l.x.c
		if err := c.lockWrite(); err != nil {
			t.Fatal(err)
		}
		waits := background(func() (int, error) { return l.x.Write([]byte("six")) })
		synctest.Wait()
		if err := c.writeCopy([]byte("two")); err != nil || c.leased != 0 {
			t.Errorf("%v, leased %d", err, c.leased)
		}
		c.unlockWrite()
		l.now("Write", waits)
		l.release()
		l.sent("one", "two", "six")
		l.atRest()
	})
}

// Whatever the sizes, how many leases there are and where they end: all frames are sent, those
// of a connection in order, without a gap in between, and counted.
func TestGapsOfLeasesAreClosed(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			b := newBareOf(t, ProtocolVT, false)
			rnd := rand.New(rand.NewPCG(seed, 1))
			conns := make([]*Conn, 1+rnd.IntN(2*maxLeases))
			for i := range conns {
				conns[i] = b.open(i)
			}
			l := leases{b, conns[0], nil}
			l.hold()
			want := make(map[addr.SocketAddr][]byte)
			all, before := 0, l.s.payloadOut()
			most := 1 + rnd.IntN(1500)
			for n := uint32(0); ; n++ {
				i := rnd.IntN(min(len(conns), 1+rnd.IntN(len(conns)))) // some more than others
				p := testBytes(1+rnd.IntN(most), n)
				if wordOffset(l.s.out.stg.word.Load())+2*leaseMax > stagingSize {
					break
				}
				l.write(conns[i], string(p))
				want[testAddr(i)] = append(want[testAddr(i)], p...)
				all += wire.VTHeaderLen + len(p)
			}
			payload := 0
			for _, p := range want {
				payload += len(p)
			}
			l.release()
			got := make([]byte, all)
			if _, err := io.ReadFull(l.far, got); err != nil {
				t.Fatal(err)
			}
			sorted := sortPayloads(got)
			for a, p := range want {
				wantBytes(t, fmt.Sprintf("seed %d, %v", seed, a), sorted[a], p)
			}
			l.atRest()
			if n := l.s.payloadOut() - before; n != uint64(payload) {
				t.Errorf("seed %d: %d bytes of payload are counted, want %d", seed, n, payload)
			}
			runtime.KeepAlive(conns)
		})
	}
}
