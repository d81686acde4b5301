//! `rtc`: a driver at EL0, of QEMU's real-time clock (PL031). It maps the clock's registers, has its
//! interrupt set notification bits at the endpoint where its clients call, and sets alarms: a few of
//! its own, a second apart, and those that a client asks for.
//!
//! The clock is at the same place on every machine `virt` of QEMU's, whose device tree programs are not
//! given: hence the constants.

use std::process::ExitCode;

use servers::child::Answer;
use servers::{Outcome, arguments, child, finish, usage};
use tessera::{Command, Endpoint, Error, Event, Interrupt, Machine, Mapping, Message, Process};
use tessera::{PAGE, Prot, Received, Reply, SavedReply};

/// Where the registers are, and the number of the interrupt: the second shared peripheral one.
const REGISTERS: u64 = 0x0901_0000;
const INTERRUPT: u64 = 32 + 2;
/// Where the client finds its handle of the server's endpoint.
const SERVER: u64 = 70;
/// Notification bit of the interrupt.
const ALARM: u64 = 1;
/// Alarms of the server's own.
const ALARMS: u64 = 3;

/// What a call is about.
mod label {
    /// The answer is the time in seconds.
    pub const TIME: u32 = 1;
    /// The answer comes so many seconds later (word 0), and is the time then.
    pub const WAKE: u32 = 2;
}

/// Registers of a PL031. [ARM DDI 0224, "Programmer's model"]
mod register {
    /// Seconds now.
    pub const DATA: usize = 0x00;
    /// Seconds at which it interrupts.
    pub const MATCH: usize = 0x04;
    /// 1: the interrupt is let out.
    pub const MASK: usize = 0x10;
    /// 1: it has come, let out or not.
    pub const RAW: usize = 0x14;
    /// 1 ends it.
    pub const CLEAR: usize = 0x1c;
}

fn main() -> ExitCode {
    let words = arguments();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    finish(
        "rtc",
        match words[..] {
            [] => server(),
            ["client"] => client(),
            _ => usage("rtc"),
        },
    )
}

fn server() -> Outcome {
    let machine = Machine::own()?;
    let endpoint = Endpoint::create()?;
    let device = machine.device(REGISTERS, PAGE as u64)?;
    let registers = device.map(0, PAGE, Prot::READ | Prot::WRITE)?;
    registers.store(register::CLEAR, 1);
    let interrupt = machine.interrupt(INTERRUPT, &endpoint, ALARM)?;
    let mut clock = Clock {
        registers,
        interrupt,
        alarms: 0,
        asleep: Vec::new(),
    };
    clock.set_alarm(clock.now() + 1);
    let handle = endpoint.client(1)?;
    let command = Command::find("program")?.arg("client").console();
    let child = command.handle(SERVER, &handle).prepare(&Process::own()?)?;
    let end = child::follow(&child, &endpoint, |received| clock.serve(received))?;
    while clock.alarms < ALARMS {
        clock.serve(endpoint.receive()?)?;
    }
    clock.registers.store(register::MASK, 0);
    println!(
        "rtc: {} alarms, the client {}",
        clock.alarms,
        child::tell(end)
    );
    Ok(0)
}

/// The clock, and who waits for a time.
struct Clock {
    registers: Mapping,
    interrupt: Interrupt,
    alarms: u64,
    asleep: Vec<(u32, SavedReply)>,
}

impl Clock {
    fn now(&self) -> u32 {
        self.registers.load(register::DATA)
    }

    fn set_alarm(&self, at: u32) {
        self.registers.store(register::MATCH, at);
        self.registers.store(register::MASK, 1);
    }

    fn serve(&mut self, received: Received) -> Result<Option<Answer>, Error> {
        match received.event {
            Event::Call(message, reply) => self.call(&message, reply),
            Event::Notification(bits) if bits & ALARM != 0 => self.alarm().map(|()| None),
            _ => Ok(None),
        }
    }

    fn call(&mut self, message: &Message<'_>, reply: Reply) -> Result<Option<Answer>, Error> {
        let now = self.now();
        if message.label != label::WAKE {
            return Ok(Some((reply, time(now))));
        }
        // The alarm is always the next second: nothing is to be put in order.
        self.asleep
            .push((now + message.word(0) as u32, reply.save()?));
        Ok(None)
    }

    /// The interrupt has come: it is ended at the device first, and let come again then.
    fn alarm(&mut self) -> Result<(), Error> {
        let (now, raw) = (self.now(), self.registers.load(register::RAW));
        self.alarms += 1;
        println!("rtc: alarm {}, interrupt {raw}", self.alarms);
        self.registers.store(register::CLEAR, 1);
        let (due, asleep) = self.asleep.drain(..).partition(|(at, _)| *at <= now);
        self.asleep = asleep;
        let due: Vec<(u32, SavedReply)> = due;
        for (_, reply) in due {
            reply.answer(time(now))?;
        }
        if self.alarms < ALARMS || !self.asleep.is_empty() {
            self.set_alarm(now + 1);
        }
        self.interrupt.acknowledge()
    }
}

fn time(seconds: u32) -> Message<'static> {
    Message::new(label::TIME).number(0, seconds.into())
}

fn client() -> Outcome {
    let server = Endpoint::from(tessera::Handle::at(SERVER)?);
    let before = server.call(Message::new(label::TIME))?.word(0);
    println!("client: it is later than 2020: {}", before > 1_577_836_800);
    let woken = server.call(Message::new(label::WAKE).number(0, 1))?.word(0);
    println!("client: woken, later: {}", woken > before);
    Ok(0)
}
