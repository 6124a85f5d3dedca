"""Ranks in threads, for what several processes decide together."""

import threading

import torch


class Meeting:
    """Ranks in threads, which meet at each exchange."""

    def __init__(self, count):
        self.count, self._barrier, self._brought = count, threading.Barrier(count, timeout=30), {}

    def exchanged(self, index, value):
        self._brought[index] = value
        self._barrier.wait()
        everyone = [self._brought[rank] for rank in range(self.count)]
        self._barrier.wait()
        return everyone

    def rank(self, index):
        return Rank(self, index)

    def all_do(self, what):
        """Have each rank do something in a thread of its own, and return what each of them returned."""
        results, errors = [None] * self.count, []

        def run(index):
            try:
                results[index] = what(index)
            except BaseException as error:
                errors.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=run, args=(index,)) for index in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


class Rank:
    """One of the ranks that meet."""

    def __init__(self, meeting, index):
        self._meeting, self.index, self.count, self.is_main = meeting, index, meeting.count, index == 0

    def gathered(self, *columns_B):
        table = torch.stack([column.float() for column in columns_B], dim=1).double()
        return torch.cat(self._meeting.exchanged(self.index, table)).unbind(dim=1)

    def summed(self, values):
        return sum(self._meeting.exchanged(self.index, values))

    def local(self, values_B):
        return values_B.chunk(self.count)[self.index]

    def from_main(self, text):
        return self._meeting.exchanged(self.index, text)[0]
