package mux

// A waitQueue is a first-in-first-out list of waiters, guarded by its owner's lock, that are
// woken where they wait: each stays in until it leaves.
type waitQueue struct{ head, tail *waiter }

func (q *waitQueue) push(w *waiter) {
	w.prev = q.tail
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
}

func (q *waitQueue) remove(w *waiter) {
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
}

// Who waits for the flusher is in one of two queues:
//
//	rooms     for room in staging. A batch that is collected wakes the first, and so does
//	          who leaves; one that needs more than there is wakes one that does not, if
//	          there is one among the next few. So a batch wakes as many as find room, and
//	          few more, however many wait, and they have their turn in order. None blocks
//	          in the transport while it is in: the others would wait for it.
//	watchers  for anything else that a flush changes: an address that becomes free, or the
//	          role at rest. All are woken each time.
//
// Who has entered looks at its condition again before it parks.

// enter puts w into q, one of the two.
func (o *writeSide) enter(q *waitQueue, w *waiter) {
	o.mu.Lock()
	q.push(w)
	o.waiting.Add(1)
	o.mu.Unlock()
}

// leave takes w out of q. Why does not matter: it may have been woken in the others' stead.
func (o *writeSide) leave(q *waitQueue, w *waiter) {
	o.mu.Lock()
	q.remove(w)
	o.waiting.Add(-1)
	if q == &o.rooms && q.head != nil {
		q.head.Wake()
	}
	o.mu.Unlock()
}

// fitAmong is how many are looked at for one that fits: 10,000 may wait, and need as much.
const fitAmong = 64

// passOver wakes the first among the next behind w that needs less and finds room. W is in
// rooms, and needs more than there was.
func (o *writeSide) passOver(w *waiter) {
	o.mu.Lock()
	next := w.next
	for i := 0; i < fitAmong && next != nil; i++ {
		if next.need < w.need && o.stg.fits(next.need) {
			next.Wake()
			break
		}
		next = next.next
	}
	o.mu.Unlock()
}

// wakeRooms follows a batch that was collected or built, and the role that rests.
func (o *writeSide) wakeRooms() {
	if o.waiting.Load() == 0 {
		return
	}
	o.mu.Lock()
	if w := o.rooms.head; w != nil {
		w.Wake()
	}
	for w := o.watchers.head; w != nil; w = w.next {
		w.Wake()
	}
	o.mu.Unlock()
}

// wakeAll wakes everyone, because an Open may have to give up.
func (o *writeSide) wakeAll() {
	o.mu.Lock()
	for w := o.rooms.head; w != nil; w = w.next {
		w.Wake()
	}
	for w := o.watchers.head; w != nil; w = w.next {
		w.Wake()
	}
	o.mu.Unlock()
}
