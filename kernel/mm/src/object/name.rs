//! What the map list calls an object.

/// Longest name, in bytes: what `memfd_create` allows, with what goes around it.
pub const MAX_NAME: usize = 272;

/// A name, as Linux shows it.
#[derive(Clone)]
pub struct Name {
    text: [u8; MAX_NAME],
    length: u16,
}

impl Name {
    /// Shared anonymous memory.
    pub const SHARED: Self = Self::fixed(b"/dev/zero (deleted)");
    /// The program that was loaded.
    pub const PROGRAM: Self = Self::fixed(b"program");
    /// The archive that the machine was started with.
    pub const INITRD: Self = Self::fixed(b"initrd");

    /// An object with a pager.
    pub const PAGER: Self = Self::fixed(b"pager");

    const fn fixed(name: &[u8]) -> Self {
        let mut text = [0; MAX_NAME];
        let mut length = 0;
        while length < name.len() {
            text[length] = name[length];
            length += 1;
        }
        let length = length as u16;
        Self { text, length }
    }

    /// The name of a `memfd` that was made as `name`; bytes that are no text are shown as `?`, and
    /// what is too long is cut.
    pub fn memfd(name: &[u8]) -> Self {
        let parts: [&[u8]; 3] = [b"/memfd:", name, b" (deleted)"];
        let shown = parts.into_iter().flatten().map(|&byte| match byte {
            b' '..=b'~' => byte,
            _ => b'?',
        });
        let mut made = Self::fixed(b"");
        for (place, byte) in made.text.iter_mut().zip(shown) {
            *place = byte;
            made.length += 1;
        }
        made
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..usize::from(self.length));
        core::str::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memfd_is_shown_as_linux_shows_it() {
        assert_eq!(Name::memfd(b"a b").as_str(), "/memfd:a b (deleted)");
        assert_eq!(Name::memfd(b"\xff\n").as_str(), "/memfd:?? (deleted)");
        assert_eq!(Name::memfd(&[b'x'; 400]).as_str().len(), MAX_NAME);
    }
}
