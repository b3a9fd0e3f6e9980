package sim

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/xport"
)

// quietLink returns a link of room bytes each way whose bytes nobody reads along.
func quietLink(room int) *Link {
	k := NewLink(1, [2]int{room, room}, [2]int{})
	k.Said, k.Heard = func(int, []byte) {}, func(int, int) {}
	return k
}

// async runs a call, and returns where its outcome comes.
func async(call func() (int, error)) <-chan outcome {
	c := make(chan outcome, 1)
	go func() {
		n, err := call()
		c <- outcome{n, err}
	}()
	synctest.Wait()
	return c
}

type outcome struct {
	n   int
	err error
}

// want fails the test unless the call has returned that.
func want(t *testing.T, what string, c <-chan outcome, n int, err error) {
	t.Helper()
	select {
	case o := <-c:
		if o.n != n || !errors.Is(o.err, err) {
			t.Errorf("%s: %d, %v; want %d, %v", what, o.n, o.err, n, err)
		}
	default:
		t.Errorf("%s waits", what)
	}
}

func wantWaits(t *testing.T, what string, c <-chan outcome) {
	t.Helper()
	select {
	case o := <-c:
		t.Errorf("%s: %d, %v; it should wait", what, o.n, o.err)
	default:
	}
}

func TestLinkMovesWhatIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := quietLink(5)
		a, b := k.Conn(0, Plain, 0), k.Conn(1, Plain, 0)
		p := make([]byte, 10)
		write := async(func() (int, error) { return a.Write([]byte("abcdefgh")) })
		read := async(func() (int, error) { return b.Read(p) })
		wantWaits(t, "Write beyond the room", write)
		wantWaits(t, "Read before the delivery", read)
		if !k.Stuck(0) || k.Stuck(1) || k.Undelivered(0) != 5 {
			t.Errorf("stuck %v, %v; %d on the way", k.Stuck(0), k.Stuck(1), k.Undelivered(0))
		}
		k.Deliver(0, 3)
		synctest.Wait()
		want(t, "Read", read, 3, nil)
		want(t, "Write", write, 8, nil)
		k.Deliver(0, 100)
		want(t, "Read", async(func() (int, error) { return b.Read(p[3:]) }), 5, nil)
		if !bytes.Equal(p[:8], []byte("abcdefgh")) {
			t.Errorf("read %q", p)
		}
		a.Close()
		read = async(func() (int, error) { return b.Read(p) })
		wantWaits(t, "Read before the end's delivery", read)
		k.Deliver(0, 1)
		synctest.Wait()
		want(t, "Read", read, 0, io.EOF)
		want(t, "Write to who has gone", async(func() (int, error) { return b.Write(p) }), 0, syscall.EPIPE)
		b.Close()
	})
}

func TestLinkIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := quietLink(100)
		a, b := k.Conn(0, Plain, 0), k.Conn(1, Plain, 0)
		a.Write([]byte("unread"))
		k.Deliver(0, 100)
		b.Write([]byte("lost"))
		b.Close()
		want(t, "Read from who has not read all", async(func() (int, error) { return a.Read(make([]byte, 9)) }), 0, syscall.ECONNRESET)
		a.Close()
	})
}

func TestLinkIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, withLast := range []bool{false, true} {
			k := quietLink(100)
			a, b := k.Conn(0, Plain, 0), k.Conn(1, Plain, 0)
			a.Write([]byte("abcdef"))
			k.Deliver(0, 4)
			k.Cut(0, syscall.ETIMEDOUT, nil, withLast)
			var last error
			if withLast {
				last = syscall.ETIMEDOUT
			}
			read := func() (int, error) { return b.Read(make([]byte, 9)) }
			want(t, "Read of what has arrived", async(read), 4, last)
			want(t, "Read behind the cut", async(read), 0, syscall.ETIMEDOUT)
			want(t, "Write into the void", async(func() (int, error) { return a.Write(make([]byte, 1000)) }), 1000, nil)
			a.Close()
			b.Close()
		}
	})
}

func TestLinkKeepsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := quietLink(4)
		a := k.Conn(0, Layered, 0)
		at := time.Now().Add(time.Second)
		a.SetDeadline(at)
		read := async(func() (int, error) { return a.Read(make([]byte, 9)) })
		write := async(func() (int, error) { return a.Write(make([]byte, 9)) })
		<-time.After(time.Second - 1)
		wantWaits(t, "Read", read)
		wantWaits(t, "Write", write)
		<-time.After(1)
		synctest.Wait()
		want(t, "Read", read, 0, os.ErrDeadlineExceeded)
		want(t, "Write", write, 4, os.ErrDeadlineExceeded)
		a.SetDeadline(time.Time{})
		k.Resize(0, 100)
		want(t, "Write of a broken layer", async(func() (int, error) { return a.Write([]byte("x")) }), 0, os.ErrDeadlineExceeded)
		a.Close()
		if err := k.Conn(1, NoDeadlines, 0).SetReadDeadline(at); err == nil {
			t.Error("a connection without deadlines takes one")
		}
		want(t, "Read of a closed end", async(func() (int, error) { return a.Read(nil) }), 0, net.ErrClosed)
		k.End(1).Close()
	})
}

func TestSocketsDoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := quietLink(4)
		a, b := k.Conn(0, Sock, 0).(xport.Socket), k.Conn(1, Sock, 0).(xport.Socket)
		tr := xport.New(a)
		if !tr.Vectored() || !tr.CanTry() || !tr.Resumable() {
			t.Error("xport does not know a Socket")
		}
		want(t, "TryWrite", async(func() (int, error) { return a.TryWrite([]byte("abcdef")) }), 4, nil)
		want(t, "TryWrite without room", async(func() (int, error) { return a.TryWrite([]byte("ef")) }), 0, nil)
		k.Deliver(0, 9)
		x, y, z := make([]byte, 1), make([]byte, 2), make([]byte, 9)
		want(t, "ReadVec", async(func() (int, error) { return b.ReadVec(x, y, z) }), 4, nil)
		if string(x)+string(y)+string(z[:1]) != "abcd" {
			t.Errorf("ReadVec: %q, %q, %q", x, y, z)
		}
		a.(interface{ CloseWrite() error }).CloseWrite()
		k.Deliver(0, 9)
		want(t, "Read", async(func() (int, error) { return b.Read(z) }), 0, io.EOF)
		want(t, "Write to who can still read", async(func() (int, error) { return b.Write([]byte("x")) }), 1, nil)
		a.Close()
		b.Close()
	})
}
