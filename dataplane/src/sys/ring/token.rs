//! How completions are told apart.

/// What a completion belongs to, as carried in its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The multishot read or receive of this index.
    Input(u32),
    /// The poll on the stop event.
    Stop,
    /// A cancellation.
    Cancel,
    /// The output of this index.
    Output(u32),
}

impl Token {
    pub(super) fn encode(self) -> u64 {
        match self {
            Token::Stop => 1,
            Token::Cancel => 2,
            Token::Output(index) => (1 << 32) | u64::from(index),
            Token::Input(index) => (2 << 32) | u64::from(index),
        }
    }

    pub(super) fn decode(data: u64) -> Option<Token> {
        match data {
            1 => Some(Token::Stop),
            2 => Some(Token::Cancel),
            _ if data >> 32 == 1 => Some(Token::Output(data as u32)),
            _ if data >> 32 == 2 => Some(Token::Input(data as u32)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_user_data() {
        let tokens = [
            Token::Input(0),
            Token::Input(7),
            Token::Stop,
            Token::Cancel,
            Token::Output(0),
            Token::Output(77),
        ];
        for token in tokens {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(3), None);
        assert_eq!(Token::decode(u64::MAX), None);
    }
}
